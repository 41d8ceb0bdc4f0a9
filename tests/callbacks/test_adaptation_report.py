import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.image import imread
from torch import nn
from torch.utils.data import TensorDataset

from metalit import EpisodeDataModule, MetaLearner
from metalit.callbacks import AdaptationReport, ClusterPretraining
from metalit.data import EpisodeDataset
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy
from metalit.networks import MLP
from metalit.tasks import LabelTasks

STEPS = (0, 1, 3)


def blobs(split: str) -> TensorDataset:
    """Four noisy classes in eight dimensions."""
    generator = torch.Generator().manual_seed(len(split))
    y = torch.arange(80) % 4
    x = torch.rand(4, 8, generator=generator)[y] + 0.2 * torch.rand(80, 8, generator=generator)
    return TensorDataset(x, y)


def make_model(seed: int, network: nn.Module | None = None) -> MetaLearner:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = network or MLP(8, 16, 3)
    loop = GradientDescent(lr=1.0, steps=1, eval_steps=2)
    maml = MAML(network, loop, nn.CrossEntropyLoss())
    return MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy())


def run_test(folder: Path, model: MetaLearner, *callbacks: Callback) -> Trainer:
    data = EpisodeDataModule(
        LabelTasks(3, 1, 4), blobs, meta_batch_size=4, test_episodes=10, seed=3
    )
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder, name=None, version=""),
        enable_progress_bar=False,
        callbacks=list(callbacks),
        default_root_dir=folder,
    )
    trainer.test(model, data, verbose=False)
    return trainer


def report(folder: Path, model: MetaLearner, **arguments: Any) -> Trainer:
    return run_test(folder, model, AdaptationReport(STEPS, **arguments))


def direct_evaluation(model: MetaLearner, steps: int) -> tuple[float, float]:
    """Mean accuracy and its interval, episode by episode, without the callback."""
    tasks = LabelTasks(3, 1, 4).fit(*blobs("test").tensors)
    episodes = EpisodeDataset(tasks, seed=3, stage="test", episodes=10)
    loop = GradientDescent(lr=1.0, steps=steps)
    maml = MAML(model.learner.network, loop, nn.CrossEntropyLoss()).eval()
    values = []
    for number in range(10):
        support, query = episodes[number]
        hits = maml(support, query.x).argmax(1) == query.y
        values.append(hits.double().mean().item())
    return float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))


def test_the_table_equals_a_direct_evaluation_of_every_model(tmp_path: Path) -> None:
    model, pretraining = make_model(7), ClusterPretraining(clusters=4, epochs=3)
    report(tmp_path, model, pretraining=pretraining, seed=5)
    found = json.loads((tmp_path / "adaptation.json").read_text())
    assert (found["metric"], found["episodes"]) == ("accuracy", 10)
    untrained = make_model(5)  # the weights that the report draws from its seed
    pretrained = make_model(
        0, pretraining(make_model(5).learner.network, blobs("train").tensors[0])
    )
    models = {"meta-trained": model, "pre-trained": pretrained, "untrained": untrained}
    assert set(found["mean_and_ci95"]) == set(models)
    rows = []
    for name, row in found["mean_and_ci95"].items():
        assert list(row) == [str(step) for step in STEPS]
        for step in STEPS:
            assert row[str(step)] == pytest.approx(direct_evaluation(models[name], step), abs=1e-6)
        rows.append(str(row))
    assert len(set(rows)) == 3


def test_the_figure_is_a_picture_with_something_in_it(tmp_path: Path) -> None:
    report(tmp_path, make_model(7))
    picture = imread(tmp_path / "figures" / "adaptation.png")
    assert min(picture.shape[:2]) > 300
    assert picture.std() > 0.01


def test_the_table_on_the_terminal_shows_the_values_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "metalit"):
        report(tmp_path, make_model(7))
    table = json.loads((tmp_path / "adaptation.json").read_text())["mean_and_ci95"]
    for name, row in table.items():
        (line,) = [line for line in caplog.text.splitlines() if line.startswith(name)]
        cells = [f"{100 * mean:.1f} ± {100 * ci95:.1f}" for mean, ci95 in row.values()]
        assert [cell for cell in cells if cell not in line] == []


def test_without_pretraining_there_is_one_baseline(tmp_path: Path) -> None:
    report(tmp_path, make_model(7))
    found = json.loads((tmp_path / "adaptation.json").read_text())
    assert set(found["mean_and_ci95"]) == {"meta-trained", "untrained"}


def test_the_report_leaves_the_model_and_the_score_of_the_run_as_they_are(tmp_path: Path) -> None:
    model = make_model(7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    run_test(tmp_path / "without", model)
    random_state = torch.get_rng_state()
    torch.manual_seed(0)
    pretraining = ClusterPretraining(clusters=4, epochs=1)
    trainer = report(tmp_path / "with", model, pretraining=pretraining)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.learner.inner_loop.eval_steps == 2
    weights = {k: v for k, v in model.state_dict().items() if k.startswith("learner.")}
    assert weights
    assert all(torch.equal(value, before[name]) for name, value in weights.items())
    mean, ci95 = direct_evaluation(model, steps=2)
    assert float(trainer.callback_metrics["test/accuracy"]) == pytest.approx(mean, abs=1e-6)
    assert float(trainer.callback_metrics["test/accuracy_ci95"]) == pytest.approx(ci95, abs=1e-6)
