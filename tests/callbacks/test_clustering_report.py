"""The pictures of clusterings and the reliability curve, against what is found by hand."""

import json

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.image import imread
from sklearn.metrics import adjusted_rand_score
from torch import nn

from metalit import Episode, EpisodeDataModule, MetaLearner, Samples
from metalit.callbacks import ClusteringReport
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML, AmortizedClusterer, PairwiseSimilarity, Prototypes
from metalit.loggers import WandB
from metalit.losses import SoftAdjustedRand, SoftKMeans
from metalit.metrics import AdjustedRand, reliability
from metalit.networks import MLP, PairNetwork
from metalit.tables.makers import blobs
from metalit.tasks import BlobTasks, TableTasks, TaskDistribution

BLOBS = BlobTasks(20, 15, maker_args={"centers": 3, "n_features": 4, "cluster_std": 0.3})


def make_maml(seed=3):
    torch.manual_seed(seed)
    loop = GradientDescent(lr=0.05, steps=1, eval_steps=2)
    return MAML(MLP(4, 8, 3), loop, SoftKMeans()).eval()


def make_clusterer(seed=0):
    torch.manual_seed(seed)
    similarity = PairwiseSimilarity(PairNetwork(hidden=8, blocks=1))
    for parameter in similarity.parameters():  # off the start, where nothing is learned
        nn.init.normal_(parameter, std=0.3)
    return AmortizedClusterer(similarity, pairs=500, inner_loop=GradientDescent(0.5, 0)).eval()


def run_test(folder, learner, tasks, report, logger=None, episodes=4, **options):
    data = EpisodeDataModule(tasks, meta_batch_size=1, test_episodes=episodes, seed=5)
    trainer = Trainer(
        accelerator="cpu",
        logger=[CSVLogger(folder, name=None, version=""), *([logger] if logger else [])],
        enable_progress_bar=False,
        callbacks=[report],
        default_root_dir=folder,
        **options,
    )
    trainer.test(MetaLearner(learner, SoftAdjustedRand(), AdjustedRand()), data, verbose=False)
    data.setup("test")
    return [
        Episode(*(Samples(part.x[0], part.y[0]) for part in batch.episodes))
        for batch in data.test_dataloader()
    ]


@pytest.fixture
def pictures(monkeypatch):
    """What is drawn, instead of the drawing."""
    drawn = []
    monkeypatch.setattr(
        "metalit.callbacks.clustering_report.draw_pictures", lambda found, file: drawn.extend(found)
    )
    return drawn


def test_the_panels_are_the_clusters_after_each_number_of_steps(tmp_path, pictures):
    maml, other = make_maml(), make_maml(seed=4)
    report = ClusteringReport(steps=(0, 3), tables=2, untrained=other)
    episodes = run_test(tmp_path, maml, BLOBS, report)
    report = json.loads((tmp_path / "clusterings.json").read_text())
    assert len(report["tables"]) == len(pictures) == 2
    for picture, table, (support, query) in zip(pictures, report["tables"], episodes, strict=False):
        names = ["truth", "KMeans", "untrained, 3 steps", "0 steps", "3 steps"]
        assert list(picture.panels) == names
        assert table == {"rows": 15, "adjusted_rand": picture.scores, "confidence": None}
        for learner, before, steps in ((maml, "", 0), (maml, "", 3), (other, "untrained, ", 3)):
            learner.inner_loop.eval_steps = steps
            labels = learner(support, query.x).argmax(dim=1).numpy()
            name = f"{before}{steps} steps"
            drawn = picture.panels[name]
            assert adjusted_rand_score(labels, drawn) == 1  # the same clusters
            score = picture.scores[name]
            assert score == pytest.approx(adjusted_rand_score(query.y.numpy(), labels), abs=1e-6)
    assert pictures[0].scores["0 steps"] != pictures[0].scores["3 steps"]
    assert pictures[0].scores["3 steps"] != pictures[0].scores["untrained, 3 steps"]


def test_colours_are_matched_to_the_truth(tmp_path, pictures):
    run_test(tmp_path, make_maml(), BLOBS, ClusteringReport(tables=4))
    for picture in pictures:
        truth = picture.panels["truth"]
        assert picture.scores["KMeans"] == 1
        np.testing.assert_array_equal(picture.panels["KMeans"], truth)
        for labels in picture.panels.values():  # no other names agree in more rows
            others = (np.roll(np.arange(3), shift)[labels] for shift in (1, 2))
            assert all((labels == truth).sum() >= (other == truth).sum() for other in others)


def test_rows_with_more_columns_are_drawn_by_principal_components(tmp_path, pictures):
    episodes = run_test(tmp_path, make_maml(), BLOBS, ClusteringReport(tables=1))
    x = episodes[0].query.x.double().numpy()
    variances = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(np.cov(pictures[0].plane.T), np.diag(variances[:2]), atol=1e-6)


def test_the_report_leaves_the_learner_as_it_is(tmp_path):
    maml = make_maml()
    before = {name: value.clone() for name, value in maml.state_dict().items()}
    run_test(tmp_path, maml, BLOBS, ClusteringReport())
    assert maml.inner_loop.eval_steps == 2
    assert all(torch.equal(value, before[name]) for name, value in maml.state_dict().items())


def test_the_figures_are_pictures_and_go_to_weights_and_biases(tmp_path, monkeypatch):
    logged = {}
    monkeypatch.setattr(WandB, "log_image", lambda self, key, images: logged.update({key: images}))
    tasks = TableTasks((60, 60), clusters=(2, 3), families=[blobs], planar=1.0)
    report = ClusteringReport((0,), tables=1, bins=2, untrained=make_clusterer(1))
    run_test(tmp_path, make_clusterer(), tasks, report, WandB(mode="disabled"), episodes=2)
    assert set(logged) == {"test/clusterings", "test/reliability"}
    for (file,) in logged.values():
        assert imread(file)[..., :3].std() > 0.03


def test_confidence_is_compared_with_the_index_on_all_tables(tmp_path, pictures, caplog):
    trained, untrained = make_clusterer(0), make_clusterer(1)
    tasks = TableTasks((60, 90), clusters=(2, 3), difficulty=(0.9, 1.0), planar=1.0)
    report = ClusteringReport((0,), tables=1, bins=2, untrained=untrained)
    with caplog.at_level("INFO", "metalit"):
        episodes = run_test(tmp_path, trained, tasks, report)
    found = json.loads((tmp_path / "reliability.json").read_text())
    for name, learner in (("meta-trained", trained), ("untrained", untrained)):
        clusterings = [learner.cluster(support) for support, _ in episodes]
        confidence = np.array([clustering.confidence for clustering in clusterings])
        scores = [
            adjusted_rand_score(y[y >= 0], clustering.labels[y >= 0])
            for clustering, (_, (_, y)) in zip(clusterings, episodes, strict=True)
        ]
        expected = reliability(confidence, np.array(scores), 2)
        for key, value in expected._asdict().items():
            assert found[name][key] == pytest.approx(value, abs=1e-5, nan_ok=True), key
    assert found["meta-trained"] != found["untrained"]
    first = trained.cluster(episodes[0].support).confidence
    assert pictures[0].confidence == pytest.approx(first)
    assert "over 4 tables" in caplog.text


class OneColumn(TaskDistribution):
    def sample(self, generator):
        x = torch.randn(12, 1, generator=generator)
        return Episode(Samples(x, torch.full((12,), -1)), Samples(x, (x[:, 0] > 0).long()))


def test_a_table_of_one_column_is_not_drawn(tmp_path):
    torch.manual_seed(0)
    maml = MAML(MLP(1, 4, 2), GradientDescent(lr=0.1), SoftKMeans())
    run_test(tmp_path, maml, OneColumn(), ClusteringReport())
    assert not (tmp_path / "clusterings.json").exists()


def test_a_learner_without_an_inner_loop_is_drawn_once(tmp_path, pictures):
    clusterer = AmortizedClusterer(PairwiseSimilarity(PairNetwork(hidden=8, blocks=1)), pairs=500)
    report = ClusteringReport(tables=1, untrained=clusterer)
    run_test(tmp_path, clusterer, BLOBS, report, episodes=1)
    assert list(pictures[0].panels) == ["truth", "KMeans", "untrained", "AmortizedClusterer"]


def test_a_fast_dev_run_writes_nothing(tmp_path):
    run_test(tmp_path, make_maml(), BLOBS, ClusteringReport(), fast_dev_run=True)
    assert not (tmp_path / "clusterings.json").exists()


@pytest.mark.parametrize("wrong", [{"steps": ()}, {"steps": (-1,)}, {"tables": 0}, {"bins": 0}])
def test_numbers_that_make_no_report_are_refused(wrong):
    with pytest.raises(ValueError, match="correct them"):
        ClusteringReport(**wrong)


def test_a_learner_that_cannot_be_built_again_is_refused_in_one_line(tmp_path):
    learner = Prototypes(nn.Sequential(nn.Linear(4, 3)))
    with pytest.raises(ValueError, match="cannot be built once more"):
        run_test(tmp_path, learner, BLOBS, ClusteringReport())
