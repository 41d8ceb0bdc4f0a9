"""Two processes train and score exactly as one does.

As a script, `test_ddp.py FOLDER DEVICES` is the training that the tests compare.
"""

import csv
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import TensorDataset

from metalit import Episode, EpisodeDataModule, MetaLearner
from metalit.augmentations import Noise
from metalit.callbacks import AdaptationReport, ClusterPretraining, RunSummary
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.main import main
from metalit.metrics import Accuracy
from metalit.networks import Conv4
from metalit.tasks import AugmentationTasks, LabelTasks


def images(split: str) -> TensorDataset:
    """Six noisy classes of twelve images."""
    generator = torch.Generator().manual_seed(len(split))
    y = torch.arange(72) % 6
    classes = torch.rand(6, 1, 8, 8, generator=generator)
    noise = torch.rand(72, 1, 8, 8, generator=generator)
    return TensorDataset(0.5 * classes[y] + 0.5 * noise, y)


class Record(Callback):
    """Writes down what a process saw, computed and ended with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, Any] = {"train": [], "val": [], "test": [], "gradient": []}

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Episode, *args: Any) -> None:
        self.seen["train"].append(batch.query.x)

    def on_validation_batch_start(
        self, trainer: Any, model: Any, batch: Episode, *args: Any
    ) -> None:
        self.seen["val"].append(batch.query.x)

    def on_test_batch_start(self, trainer: Any, model: Any, batch: Episode, *args: Any) -> None:
        self.seen["test"].append(batch.query.x)

    def on_before_optimizer_step(self, trainer: Any, model: Any, optimizer: Any) -> None:
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        self.seen["gradient"].append(gradient.clone())

    def finish(self, trainer: Trainer, model: MetaLearner, scores: dict[str, float]) -> None:
        record = {**self.seen, "weights": model.state_dict(), "scores": scores}
        torch.save(record, self.folder / f"rank{trainer.global_rank}.pt")


def run(folder: Path, devices: int) -> None:
    torch.manual_seed(0)
    maml = MAML(Conv4(1, 3, 8, hidden=4, blocks=2), GradientDescent(0.2, 2), nn.CrossEntropyLoss())
    optimizer = partial(torch.optim.SGD, lr=0.1)
    model = MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy(), optimizer)
    data = EpisodeDataModule(
        AugmentationTasks(3, 1, 2, Noise(0.1)),
        images,
        val_tasks=LabelTasks(3, 1, 2),
        meta_batch_size=4,
        episodes_per_epoch=12,
        val_episodes=6,
        test_episodes=10,
        num_workers=1,
    )
    record = Record(folder)
    saver = ModelCheckpoint(folder, "best", monitor="val/accuracy", save_weights_only=True)
    report = AdaptationReport(steps=(0, 2), pretraining=ClusterPretraining(6, epochs=1))
    trainer = Trainer(  # use_distributed_sampler is left at its default
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=CSVLogger(folder, name=None, version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[record, report, saver, RunSummary()],
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    (tested,) = trainer.test(model, data, verbose=False)
    record.finish(trainer, model, {**scores, **tested})


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What every process recorded, by number of processes."""
    found = {}
    for devices in (1, 2):
        folder = tmp_path_factory.mktemp(f"devices{devices}")
        command = [sys.executable, __file__, str(folder), str(devices)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        table = json.loads((folder / "adaptation.json").read_text())
        found[devices] = [
            {**torch.load(folder / f"rank{rank}.pt", weights_only=True), "table": table}
            for rank in range(devices)
        ]
    return found


Records = dict[int, list[dict[str, Any]]]


@pytest.mark.parametrize(("stage", "steps"), [("train", 6), ("val", 4), ("test", 3)])
def test_two_processes_share_the_episodes_of_one(records: Records, stage: str, steps: int) -> None:
    (alone,), ranks = records[1], records[2]
    assert len(alone[stage]) == steps
    for whole, *parts in zip(alone[stage], *(rank[stage] for rank in ranks), strict=True):
        assert len({len(part) for part in parts}) == 1
        assert torch.equal(torch.cat(parts), whole)


def test_the_gradients_of_two_processes_are_those_of_one(records: Records) -> None:
    (alone,), ranks = records[1], records[2]
    pairs = zip(alone["gradient"], *(rank["gradient"] for rank in ranks), strict=True)
    for step, (whole, first, second) in enumerate(pairs):
        assert torch.equal(first, second)
        # two tasks at once are rounded otherwise than four; from the second step on, the weights
        # differ by that, which max-pool and ReLU magnify
        assert (first - whole).norm() < (2e-6 if step == 0 else 1e-5) * whole.norm()


def test_two_processes_end_with_the_weights_of_one(records: Records) -> None:
    (alone,), ranks = records[1], records[2]
    for name, value in alone["weights"].items():
        assert torch.equal(ranks[0]["weights"][name], ranks[1]["weights"][name])
        torch.testing.assert_close(ranks[0]["weights"][name], value, rtol=0, atol=1e-6)


def test_training_has_moved_the_weights(records: Records) -> None:
    assert max(gradient.abs().max() for gradient in records[1][0]["gradient"]) > 1e-2


def test_two_processes_report_the_scores_of_one(records: Records) -> None:
    (alone,), ranks = records[1], records[2]
    names = {f"{stage}/{key}" for stage in ("val", "test") for key in ("loss", "accuracy")}
    names |= {"val/accuracy_ci95", "test/accuracy_ci95"}
    assert names <= set(alone["scores"])
    for rank in ranks:
        for name in names:
            assert rank["scores"][name] == pytest.approx(alone["scores"][name], abs=1e-6), name


def test_two_processes_write_the_table_of_one(records: Records) -> None:
    one, two = records[1][0]["table"], records[2][0]["table"]
    assert one["episodes"] == two["episodes"] == 10
    for name, row in one["mean_and_ci95"].items():
        for step, value in row.items():
            assert two["mean_and_ci95"][name][step] == pytest.approx(value, abs=1e-6)


def test_a_run_of_one_process_goes_on_with_two_by_the_command_line(
    sinusoids: Path, tmp_path: Path
) -> None:
    config = ["fit", "--config", str(sinusoids), "--trainer.default_root_dir"]
    main([*config, str(tmp_path / "one"), "--trainer.max_epochs", "2"])
    main([*config, str(tmp_path / "two"), "--trainer.max_epochs", "1"])
    command = [sys.executable, "-m", "metalit", *config, str(tmp_path / "two")]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command += ["--trainer.max_epochs", "2", "--ckpt_path", "last"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sync_dist" not in done.stderr
    assert [run.name for run in (tmp_path / "two").iterdir()] == ["version_0"]
    one, two = (tmp_path / name / "version_0" for name in ("one", "two"))
    assert {file.name for file in one.rglob("*")} <= {file.name for file in two.rglob("*")}
    texts = ((run / "metrics.csv").read_text().splitlines() for run in (one, two))
    rows, others = (list(csv.DictReader(text)) for text in texts)
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, other in zip(rows, others, strict=True):
        for name in row:  # train/loss is that of one process's share of the meta-batch
            if name.startswith("val/") and row[name]:
                assert float(other[name]) == pytest.approx(float(row[name]), rel=1e-6)
    weights, parts = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (one, two)
    )
    for name, value in weights.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=1e-6)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
