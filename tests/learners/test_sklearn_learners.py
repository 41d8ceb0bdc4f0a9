"""Scikit-learn's estimators as learners, and as rows of a report, against calls by hand."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.image import imread
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import make_blobs
from sklearn.ensemble import IsolationForest, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import adjusted_rand_score, mean_squared_error, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import nn

from metalit import EpisodeDataModule, MetaLearner, Samples
from metalit.callbacks import AdaptationReport
from metalit.data import EpisodeDataset
from metalit.inner_loops import GradientDescent
from metalit.learners import (
    MAML,
    Learner,
    SklearnClassifier,
    SklearnClusterer,
    SklearnDetector,
    SklearnRegressor,
)
from metalit.losses import BinaryCrossEntropy
from metalit.metrics import AUROC, AdjustedRand, EpisodeMetric, MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import BlobTasks, OutlierTasks, SinusoidTasks, TaskDistribution

BLOBS = BlobTasks(30, 24, 3, maker_args={"centers": 3, "n_features": 4, "cluster_std": 4.0})
OUTLIERS = OutlierTasks(40, 30, features=4, contamination=0.2)


def episode(tasks: TaskDistribution, seed: int = 0):
    return tasks.sample(torch.Generator().manual_seed(seed))


def report(folder: Path, tasks: TaskDistribution, metric: EpisodeMetric, reference: Learner):
    """Test an untrained network beside a reference; returns the rows of the report."""
    support = episode(tasks).support
    outputs = {"auroc": 1, "mean_squared_error": 1}.get(metric.name, 3)
    losses = {"auroc": BinaryCrossEntropy(), "mean_squared_error": nn.MSELoss()}
    loss = losses.get(metric.name, nn.CrossEntropyLoss(ignore_index=-1))
    maml = MAML(MLP(support.x.shape[1], 4, outputs), GradientDescent(0.01), loss)
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder, name=None, version=""),
        enable_progress_bar=False,
        callbacks=[AdaptationReport(steps=(0, 2), reference=reference)],
        default_root_dir=folder,
    )
    data = EpisodeDataModule(tasks, meta_batch_size=4, test_episodes=6, seed=1)
    trainer.test(MetaLearner(maml, loss, metric), data, verbose=False)
    return json.loads((folder / "adaptation.json").read_text())["mean_and_ci95"]


def by_hand(tasks: TaskDistribution, score) -> list[float]:
    """Mean and interval of a score of (support, query) over the episodes of the report."""
    episodes = EpisodeDataset(tasks, seed=1, stage="test", episodes=6)
    values = [score(*episodes[number]) for number in range(6)]
    return [float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / 6**0.5)]


def test_the_row_of_a_clusterer_is_its_score_when_fitted_by_hand(tmp_path):
    maker_args, teacher = BLOBS.maker_args, KMeans(3)
    tasks = BlobTasks(30, 24, 3, maker_args=maker_args, teacher=teacher, true_query_labels=True)

    def score(support, query):
        # ten starts end in the best partition, whatever the seed
        k_means = KMeans(3, n_init=10, random_state=4).fit(support.x.numpy())
        return adjusted_rand_score(query.y, k_means.predict(query.x.numpy()))

    reference = SklearnClusterer(KMeans(3, n_init=10))
    rows = report(tmp_path, tasks, AdjustedRand(), reference)
    assert list(rows) == ["meta-trained", "untrained", "KMeans"]
    expected = by_hand(tasks, score)
    assert 0.1 < expected[0] < 0.99
    assert rows["KMeans"] == {step: pytest.approx(expected, abs=1e-6) for step in ("0", "2")}


def test_the_row_of_a_detector_is_its_auroc_when_fitted_by_hand(tmp_path):
    def score(support, query):
        detector = LocalOutlierFactor(n_neighbors=5, novelty=True).fit(support.x.numpy())
        return roc_auc_score(query.y, -detector.score_samples(query.x.numpy()))

    reference = SklearnDetector(LocalOutlierFactor(n_neighbors=5, novelty=True))
    rows = report(tmp_path, OUTLIERS, AUROC(), reference)
    expected = by_hand(OUTLIERS, score)
    assert expected[0] > 0.7
    assert rows["LocalOutlierFactor"]["2"] == pytest.approx(expected, abs=1e-6)


def test_the_row_of_a_regressor_is_its_error_when_fitted_by_hand(tmp_path):
    tasks = SinusoidTasks(10, 12)

    def score(support, query):
        neighbours = KNeighborsRegressor(2).fit(support.x.numpy(), support.y.numpy())
        return mean_squared_error(query.y, neighbours.predict(query.x.numpy()))

    reference = SklearnRegressor(KNeighborsRegressor(2))
    rows = report(tmp_path, tasks, MeanSquaredError(), reference)
    assert rows["KNeighborsRegressor"]["0"] == pytest.approx(by_hand(tasks, score), rel=1e-5)
    picture = imread(tmp_path / "figures" / "adaptation.png")
    assert picture.std() > 0.01


def test_noise_of_a_clusterer_is_a_cluster_of_its_own():
    x = torch.tensor([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2], [50.0]])
    reference = SklearnClusterer(DBSCAN(eps=1.0, min_samples=2))
    query = torch.tensor([[0.05], [9.05], [49.0]])
    outputs = reference(Samples(x, torch.full((7,), -1)), query)
    assert outputs.exp().round().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]  # noise is last


def test_a_clusterer_does_not_look_at_the_labels():
    support, query = episode(BLOBS)
    reference = SklearnClusterer(KMeans(3))
    other = Samples(support.x, torch.randint(3, support.y.shape))
    assert torch.equal(reference(support, query.x), reference(other, query.x))


@pytest.mark.parametrize(
    ("reference", "tasks"),
    [
        (SklearnClusterer(KMeans(5, n_init=1)), BLOBS),
        (SklearnDetector(IsolationForest(n_estimators=5)), OUTLIERS),
        (SklearnRegressor(RandomForestRegressor(n_estimators=5)), SinusoidTasks()),
    ],
)
def test_an_answer_depends_on_the_seed_of_the_reference_and_on_no_other(reference, tasks):
    support, query = episode(tasks)
    first = reference(support, query.x)
    np.random.seed(1)  # noqa: NPY002 - what scikit-learn would fall back to
    assert torch.equal(reference(support, query.x), first)
    others = [
        type(reference)(reference.estimator, seed=seed)(support, query.x) for seed in range(1, 9)
    ]
    assert any(not torch.equal(other, first) for other in others)
    assert reference.estimator.random_state is None


def test_several_targets_come_back_in_their_columns():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    y = torch.stack([x[:, 0] + x[:, 1], 3 * x[:, 0]], dim=1)
    outputs = SklearnRegressor(LinearRegression())(Samples(x, y), x[:5])
    assert torch.allclose(outputs, y[:5], atol=1e-5)


def test_images_are_flattened_for_the_estimator():
    x = torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    outputs = SklearnClusterer(KMeans(2))(Samples(x, torch.zeros(12)), x[:5])
    assert outputs.shape == (5, 2)


@pytest.mark.parametrize(
    ("kind", "estimator", "method"),
    [
        (SklearnClusterer, LinearRegression(), "fit_predict"),
        (SklearnDetector, KMeans(3), "score_samples"),
        (SklearnDetector, LocalOutlierFactor(), "score_samples"),
        (SklearnRegressor, DBSCAN(), "predict"),
    ],
)
def test_an_estimator_of_another_kind_is_refused_at_once(kind, estimator, method):
    with pytest.raises(TypeError, match=f"^estimator .* has no {method} but {kind.__name__}"):
        kind(estimator)


class OnlyPredicts(ClassifierMixin, BaseEstimator):
    """A classifier with nothing but `predict`."""

    def fit(self, x, y):
        self.model_ = GaussianNB().fit(x, y)
        self.classes_ = self.model_.classes_
        return self

    def predict(self, x):
        return self.model_.predict(x)


def blobs(rows: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = make_blobs(rows, n_features=3, centers=3, cluster_std=3.0, random_state=0)
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("classifier", [GaussianNB(), LogisticRegression(C=0.1)])
def test_a_classifier_returns_the_log_probabilities_of_scikit_learn(classifier):
    x, y = blobs()
    outputs = SklearnClassifier(classifier)(Samples(x[:40], y[:40]), x[40:])
    expected = clone(classifier).fit(x[:40].numpy(), y[:40].numpy()).predict_proba(x[40:].numpy())
    np.testing.assert_allclose(outputs.exp().numpy(), np.maximum(expected, 1e-7), rtol=1e-12)


def test_a_classifier_without_probabilities_gives_those_of_its_margins():
    x, y = blobs()
    keep = y < 2
    x, y = x[keep], y[keep]
    outputs = SklearnClassifier(LinearSVC())(Samples(x[:20], y[:20]), x[20:])
    margins = (
        LinearSVC(random_state=0).fit(x[:20].numpy(), y[:20]).decision_function(x[20:].numpy())
    )
    expected = 1 / (1 + np.exp(-margins))
    np.testing.assert_allclose(outputs[:, 1].exp().numpy(), np.maximum(expected, 1e-7), rtol=1e-3)


def test_a_classifier_that_only_predicts_gives_one_hot_rows():
    x, y = blobs()
    outputs = SklearnClassifier(OnlyPredicts())(Samples(x[:40], y[:40]), x[40:])
    assert outputs.exp().round().sum(1).tolist() == [1.0] * 20
    expected = GaussianNB().fit(x[:40].numpy(), y[:40].numpy()).predict(x[40:].numpy())
    assert outputs.argmax(1).tolist() == expected.tolist()


def test_rows_without_a_label_are_left_out_by_a_classifier():
    x, y = blobs()
    some = torch.where(torch.arange(60) % 3 == 0, -1, y)
    outputs = SklearnClassifier(GaussianNB())(Samples(x, some), x)
    assert torch.equal(
        outputs, SklearnClassifier(GaussianNB())(Samples(x[some >= 0], y[some >= 0]), x)
    )


def test_a_class_that_is_absent_from_the_support_set_keeps_its_column():
    x, y = blobs()
    keep = y != 1
    outputs = SklearnClassifier(GaussianNB())(Samples(x[keep], y[keep]), x)
    assert outputs.shape == (60, 3)
    assert torch.all(outputs[:, 1] == np.log(1e-7))


def test_preprocessing_is_fitted_to_the_support_set():
    x, y = blobs()
    outputs = SklearnClassifier(SVC(), StandardScaler())(Samples(x[:40], y[:40]), x[40:])
    pipeline = make_pipeline(StandardScaler(), SVC()).fit(x[:40].numpy(), y[:40].numpy())
    expected = torch.from_numpy(pipeline.decision_function(x[40:].numpy())).softmax(1)
    assert torch.allclose(outputs.exp(), expected, atol=1e-6)


def test_the_number_of_clusters_reaches_the_estimator():
    x, _ = blobs()
    for estimator in (KMeans(), GaussianMixture()):
        assert SklearnClusterer(estimator, n_clusters=4)(Samples(x, x[:, 0]), x).shape == (60, 4)
    with pytest.raises(ValueError, match="n_clusters=4 is given but DBSCAN finds the number"):
        SklearnClusterer(DBSCAN(), n_clusters=4)


@pytest.mark.parametrize(
    ("learner", "y", "message"),
    [
        (SklearnClassifier(GaussianNB()), torch.full((4,), -1), "GaussianNB needs labels but"),
        (SklearnClassifier(GaussianNB()), torch.zeros(4, 1), "GaussianNB is a classifier but"),
        (SklearnRegressor(LinearRegression()), torch.zeros(4).long(), "is a regressor but"),
    ],
)
def test_a_support_set_that_does_not_fit_is_refused_in_one_line(learner, y, message):
    with pytest.raises(ValueError, match=message):
        learner.check(Samples(torch.randn(4, 2), y))


def test_an_adapted_learner_can_be_pickled():
    x, y = blobs()
    for learner in (
        SklearnClassifier(GaussianNB()),
        SklearnClusterer(KMeans(3)),
        SklearnClusterer(DBSCAN(2.0)),
        SklearnDetector(IsolationForest(n_estimators=5)),
    ):
        predictor = learner.learn(Samples(x, y))
        assert torch.equal(pickle.loads(pickle.dumps(predictor))(x), learner(Samples(x, y), x))


def test_whole_numbers_as_inputs_do_not_make_whole_numbers_of_answers():
    x = torch.arange(10)[:, None]
    target = x.float() / 3
    predictions = SklearnRegressor(LinearRegression())(Samples(x, target), x)
    torch.testing.assert_close(predictions, target)
    scores = SklearnDetector(IsolationForest(n_estimators=5))(Samples(x, x[:, 0]), x)
    assert scores.dtype == torch.float32


def test_margins_of_pairs_of_classes_are_not_those_of_classes():
    x, y = torch.randn(80, 2, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 4
    x = x + 8 * torch.stack([y % 2, y // 2], dim=1)
    outputs = SklearnClassifier(SVC(decision_function_shape="ovo"))(Samples(x, y), x)
    assert outputs.shape == (80, 4)
    assert float((outputs.argmax(dim=1) == y).double().mean()) > 0.95
