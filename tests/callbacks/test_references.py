"""The classical rows of a report, against scikit-learn called by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.image import imread
from sklearn.cluster import DBSCAN, KMeans
from sklearn.ensemble import IsolationForest, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_rand_score, mean_squared_error, roc_auc_score
from sklearn.neighbors import KNeighborsRegressor, LocalOutlierFactor
from torch import nn

from metalit import EpisodeDataModule, MetaLearner, Samples
from metalit.callbacks import (
    AdaptationReport,
    ClustererReference,
    DetectorReference,
    Reference,
    RegressorReference,
)
from metalit.data import EpisodeDataset
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.losses import BinaryCrossEntropy
from metalit.metrics import AUROC, AdjustedRand, EpisodeMetric, MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import BlobTasks, OutlierTasks, SinusoidTasks, TaskDistribution

BLOBS = BlobTasks(30, 24, 3, maker_args={"centers": 3, "n_features": 4, "cluster_std": 4.0})
OUTLIERS = OutlierTasks(40, 30, features=4, contamination=0.2)


def episode(tasks: TaskDistribution, seed: int = 0):
    return tasks.sample(torch.Generator().manual_seed(seed))


def report(folder: Path, tasks: TaskDistribution, metric: EpisodeMetric, reference: Reference):
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
    values = [score(*episodes[number][0]) for number in range(6)]
    return [float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / 6**0.5)]


def test_the_row_of_a_clusterer_is_its_score_when_fitted_by_hand(tmp_path):
    maker_args, teacher = BLOBS.maker_args, KMeans(3)
    tasks = BlobTasks(30, 24, 3, maker_args=maker_args, teacher=teacher, true_query_labels=True)

    def score(support, query):
        # ten starts end in the best partition, whatever the seed
        k_means = KMeans(3, n_init=10, random_state=4).fit(support.x.numpy())
        return adjusted_rand_score(query.y, k_means.predict(query.x.numpy()))

    reference = ClustererReference(KMeans(3, n_init=10))
    rows = report(tmp_path, tasks, AdjustedRand(), reference)
    assert list(rows) == ["meta-trained", "untrained", "KMeans"]
    expected = by_hand(tasks, score)
    assert 0.1 < expected[0] < 0.99
    assert rows["KMeans"] == {step: pytest.approx(expected, abs=1e-6) for step in ("0", "2")}


def test_the_row_of_a_detector_is_its_auroc_when_fitted_by_hand(tmp_path):
    def score(support, query):
        detector = LocalOutlierFactor(n_neighbors=5, novelty=True).fit(support.x.numpy())
        return roc_auc_score(query.y, -detector.score_samples(query.x.numpy()))

    reference = DetectorReference(LocalOutlierFactor(n_neighbors=5, novelty=True))
    rows = report(tmp_path, OUTLIERS, AUROC(), reference)
    expected = by_hand(OUTLIERS, score)
    assert expected[0] > 0.7
    assert rows["LocalOutlierFactor"]["2"] == pytest.approx(expected, abs=1e-6)


def test_the_row_of_a_regressor_is_its_error_when_fitted_by_hand(tmp_path):
    tasks = SinusoidTasks(10, 12)

    def score(support, query):
        neighbours = KNeighborsRegressor(2).fit(support.x.numpy(), support.y.numpy())
        return mean_squared_error(query.y, neighbours.predict(query.x.numpy()))

    reference = RegressorReference(KNeighborsRegressor(2))
    rows = report(tmp_path, tasks, MeanSquaredError(), reference)
    assert rows["KNeighborsRegressor"]["0"] == pytest.approx(by_hand(tasks, score), rel=1e-5)
    picture = imread(tmp_path / "figures" / "adaptation.png")
    assert picture.std() > 0.01


def test_noise_of_a_clusterer_is_a_cluster_of_its_own():
    x = torch.tensor([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2], [50.0]])
    reference = ClustererReference(DBSCAN(eps=1.0, min_samples=2))
    query = torch.tensor([[0.05], [9.05], [49.0]])
    outputs = reference(Samples(x, torch.full((7,), -1)), query)
    assert outputs.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_a_clusterer_does_not_look_at_the_labels():
    support, query = episode(BLOBS)
    reference = ClustererReference(KMeans(3))
    other = Samples(support.x, torch.randint(3, support.y.shape))
    assert torch.equal(reference(support, query.x), reference(other, query.x))


@pytest.mark.parametrize(
    ("reference", "tasks"),
    [
        (ClustererReference(KMeans(5, n_init=1)), BLOBS),
        (DetectorReference(IsolationForest(n_estimators=5)), OUTLIERS),
        (RegressorReference(RandomForestRegressor(n_estimators=5)), SinusoidTasks()),
    ],
)
def test_an_answer_depends_on_the_seed_of_the_reference_and_on_no_other(reference, tasks):
    support, query = episode(tasks)
    first = reference(support, query.x)
    np.random.seed(1)  # noqa: NPY002 - what scikit-learn would fall back to
    assert torch.equal(reference(support, query.x), first)
    others = [type(reference)(reference.estimator, seed)(support, query.x) for seed in range(1, 9)]
    assert any(not torch.equal(other, first) for other in others)
    assert reference.estimator.random_state is None


def test_several_targets_come_back_in_their_columns():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    y = torch.stack([x[:, 0] + x[:, 1], 3 * x[:, 0]], dim=1)
    outputs = RegressorReference(LinearRegression())(Samples(x, y), x[:5])
    assert torch.allclose(outputs, y[:5], atol=1e-5)


def test_images_are_flattened_for_the_estimator():
    x = torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    outputs = ClustererReference(KMeans(2))(Samples(x, torch.zeros(12)), x[:5])
    assert outputs.shape == (5, 3)


@pytest.mark.parametrize(
    ("kind", "estimator", "method"),
    [
        (ClustererReference, LinearRegression(), "fit_predict"),
        (DetectorReference, KMeans(3), "score_samples"),
        (DetectorReference, LocalOutlierFactor(), "score_samples"),
        (RegressorReference, DBSCAN(), "predict"),
    ],
)
def test_an_estimator_of_another_kind_is_refused_at_once(kind, estimator, method):
    with pytest.raises(TypeError, match=f"^estimator .* has no {method} but {kind.__name__}"):
        kind(estimator)
