"""The report of a super learner's strategy, against scores and weights found by hand."""

import json
import logging

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.image import imread
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from metalit import EpisodeDataModule, MetaLearner, Samples
from metalit.callbacks import StrategyReport
from metalit.combinations import Stacking
from metalit.datasets import Digits
from metalit.learners import Prototypes, SklearnClassifier, SupervisedMetaLearner
from metalit.metrics import Accuracy
from metalit.tasks import LabelTasks

BASE = {
    "guess": SklearnClassifier(DummyClassifier()),
    "near": SklearnClassifier(KNeighborsClassifier(3)),
    "bayes": SklearnClassifier(GaussianNB(var_smoothing=0.1)),
}


def data():
    return EpisodeDataModule(LabelTasks(3, 6, 4), Digits, meta_batch_size=4, test_episodes=8)


def run_test(folder, learner, **options):
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder, name=None, version=""),
        enable_progress_bar=False,
        callbacks=[StrategyReport()],
        default_root_dir=folder,
        **options,
    )
    model = MetaLearner(learner, nn.CrossEntropyLoss(), Accuracy())
    return trainer, trainer.test(model, data(), verbose=False)[0]


@pytest.fixture
def learner():
    return SupervisedMetaLearner(BASE, Stacking(alpha=0.3)).eval()


def test_scores_weights_and_what_was_kept_are_those_of_the_episodes(learner, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "metalit"):
        _, metrics = run_test(tmp_path, learner)
    report = json.loads((tmp_path / "strategy.json").read_text())
    assert report["metric"] == "accuracy"
    assert report["episodes"] == 8

    module = data()
    module.setup("test")
    found = {name: {"score": [], "weight": [], "kept": []} for name in [*BASE, "combination"]}
    for episodes in module.test_dataloader():
        (x, y), (query, truth) = episodes.episodes
        for b in range(len(x)):
            support = Samples(x[b], y[b])
            weighing = learner.weigh(support)[1].report
            answers = {name: each(support, query[b]) for name, each in BASE.items()}
            answers["combination"] = learner(support, query[b])
            for name, outputs in answers.items():
                right = (outputs.argmax(dim=1) == truth[b]).double().mean().item()
                found[name]["score"].append(right)
                found[name]["kept"].append(weighing["kept"] == name)
                found[name]["weight"].append(weighing["weights"].get(name))
    assert sum(sum(row["kept"]) for row in found.values()) == 8
    for name, row in report["mean_and_ci95"].items():
        assert set(row) == {"score", "kept"} | ({"weight"} if name in BASE else set())
        for what, (mean, ci95) in row.items():
            values = torch.tensor(found[name][what]).double()
            assert mean == pytest.approx(values.mean().item(), abs=1e-5)
            assert ci95 == pytest.approx(1.96 * values.std().item() / 8**0.5, abs=1e-5)
    for name in BASE:
        expected = sum(found[name]["weight"]) / 8
        assert metrics[f"weights/{name}"] == pytest.approx(expected, abs=1e-5)
    combined = report["mean_and_ci95"]["combination"]["score"][0]
    assert metrics["test/accuracy"] == pytest.approx(combined, abs=1e-6)
    lines = caplog.text.splitlines()
    (row,) = [line for line in lines if line.startswith("near ")]
    assert f"{report['mean_and_ci95']['near']['weight'][0]:.3f} ±" in row
    image = imread(tmp_path / "figures" / "strategy.png")
    assert image.shape[0] > 200
    assert image[..., :3].std() > 0.05


def test_base_learners_are_scored_without_the_side_columns(tmp_path):
    run_test(tmp_path, SupervisedMetaLearner(BASE, Stacking(side_columns=[0, 5])))
    report = json.loads((tmp_path / "strategy.json").read_text())["mean_and_ci95"]
    assert report["near"]["score"][0] > 0.8


def test_a_fast_dev_run_writes_nothing(learner, tmp_path):
    run_test(tmp_path, learner, fast_dev_run=True)
    assert not (tmp_path / "strategy.json").exists()


def test_other_learners_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="for a SupervisedMetaLearner but the learner is Proto"):
        run_test(tmp_path, Prototypes(nn.Linear(64, 4)))
