"""The benchmark of detection on tables made in memory."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning import Trainer

from metalit import MetaLearner
from metalit.episodes import Episode, Samples
from metalit.learners import AmortizedDetector, Learner
from metalit.losses import BinaryCrossEntropy
from metalit.metrics import AUROC
from metalit.tasks import PrincipalTasks, TaskDistribution

ROOT = Path(__file__).parents[2]


class OneTable(TaskDistribution):
    """Always the same rows, in columns of very different units."""

    def sample(self, generator):
        random = np.random.default_rng(0)
        units = 10.0 ** np.arange(-2, 3)
        support, query = (random.normal(size=(n, 5)) ** 3 * units for n in (40, 20))
        labels = torch.zeros(40, dtype=torch.int64), torch.arange(20) % 2
        x = (torch.from_numpy(rows).float() for rows in (support, query))
        return Episode(*(Samples(*pair) for pair in zip(x, labels, strict=True)))


class Watcher(Learner):
    """Remembers what it was shown."""

    def forward(self, support, query):
        self.shown = support, query
        return query[:, :1]

    def check(self, support):
        pass


@pytest.fixture
def detection(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "unsupervised"))
    return importlib.import_module("detection")


@pytest.fixture
def tables(tmp_path):
    """A folder as METALIT_DATA has it, with two small tables whose anomalies lie far out."""
    folder = tmp_path / "data" / "adbench" / "classical"
    folder.mkdir(parents=True)
    for seed in range(2):
        random = np.random.default_rng(seed)
        y = np.arange(80) >= 70
        x = random.normal(size=(80, 4)) * np.where(y, 4.0, 1.0)[:, None]
        np.savez(folder / f"{seed}_made.npz", X=x, y=y)
    return tmp_path / "data"


@pytest.mark.parametrize("standardize", [False, True])
def test_a_baseline_meets_a_table_as_its_training_tasks_have_it(detection, standardize):
    generator = torch.Generator()
    raw = OneTable().sample(generator)
    tasks = PrincipalTasks(OneTable(), 3, standardize)
    expected, learner = tasks.sample(generator), Watcher()
    context, query = (part.x.double().numpy() for part in raw)
    scores = detection.projected(learner, tasks)(context, query)
    torch.testing.assert_close(learner.shown[0].x, expected.support.x, atol=1e-5, rtol=0)
    torch.testing.assert_close(learner.shown[1], expected.query.x, atol=1e-5, rtol=0)
    assert (learner.shown[0].y == -1).all()
    assert np.allclose(scores, expected.query.x[:, 0], atol=1e-5)
    assert detection.projected(learner, tasks)(context, None).shape == (40,)


def test_the_result_names_its_command_without_a_path_of_this_machine(detection, tables, tmp_path):
    weights = tmp_path / "best.ckpt"
    learner = AmortizedDetector()
    model = MetaLearner(learner, BinaryCrossEntropy(), AUROC())
    trainer = Trainer(logger=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(weights)
    options = ["--data", str(tables), "--only", "IForest", "KNN k=1", "--splits", "1"]
    options += ["--weights", str(weights), "detector"]
    options += ["--results", str(tmp_path), "--figure", str(tmp_path)]
    result = detection.main(options)
    assert result["command"].endswith(
        "detection.py --data $METALIT_DATA --only IForest 'KNN k=1' --splits 1 "
        "--weights SEED0.ckpt detector --results FOLDER --figure FOLDER"
    )
    assert str(tmp_path) not in json.dumps(result)
    assert json.loads((tmp_path / "unsupervised_detection.json").read_text()) == result
    assert (tmp_path / "unsupervised_detection.png").is_file()


@pytest.fixture
def small(detection, tmp_path, monkeypatch):
    """Makes the training of a baseline one of four episodes on random tables."""

    def shrink(name):
        config = yaml.safe_load((ROOT / detection.BASELINES[name]).read_text())
        arguments = config["data"]["init_args"]
        arguments |= {"episodes_per_epoch": 4, "val_episodes": 2}
        arguments["tasks"]["init_args"]["tasks"] = "AnomalyTasks"
        config["trainer"]["max_epochs"] = 1
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(config))
        monkeypatch.setitem(detection.BASELINES, name, str(file))

    return shrink


@pytest.mark.parametrize("name", ["ACR", "OC-MAML"])
def test_a_control_is_the_baseline_without_its_training(detection, small, name):
    small(name)
    rows, seconds = detection.meta_trained(name, [3])
    context = np.random.default_rng(0).normal(size=(50, 40))
    trained, control = (
        rows[key](context, None) for key in (f"{name} seed 3", f"untrained {name} seed 3")
    )
    assert trained.shape == control.shape == (50,)
    assert len(seconds) == 1
    assert 1e-4 < np.abs(trained - control).mean() < 1  # one step from the same weights


def test_one_command_meta_trains_a_baseline_and_scores_it_beside_its_control(
    detection, tables, tmp_path, small
):
    small("ACR")
    options = ["--data", str(tables), "--only", "ACR", "--splits", "1", "--tables", "1"]
    options += ["--protocols", "one-class", "--seeds", "0", "1"]
    options += ["--results", str(tmp_path), "--figure", str(tmp_path)]
    result = detection.main(options)
    assert len(result["seconds_of_meta_training"]["ACR"]) == 2
    found = result["one-class"]
    assert {"ACR", "untrained ACR", "learned"} <= found["rows"].keys()
    assert found["seeds"]["ACR seed 0"] != found["seeds"]["ACR seed 1"]
    differences = {pair["pair"]: pair["mean"] for pair in found["differences"]}
    gap = found["rows"]["ACR"]["mean"] - found["rows"]["untrained ACR"]["mean"]
    assert differences["ACR - untrained ACR"] == pytest.approx(gap, abs=2e-4)
    assert "learned - ACR" in differences
