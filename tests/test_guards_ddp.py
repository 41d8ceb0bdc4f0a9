"""Two processes skip the steps, and leave out the tasks, that one does.

As a script, `test_guards_ddp.py FOLDER DEVICES` is the training that the test compares.
"""

import csv
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from metalit import Episode, EpisodeDataModule, MetaLearner
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import SinusoidTasks

KEYS = ("guard/skipped_steps", "train/masked_tasks", "val/masked_tasks", "val/loss")


class Poison(Callback):
    """Batch 1 has two bad tasks of four, in batches 4 and 5 all are bad, and step 3 is poisoned.

    All but batches 4 and 5 is for the first process alone, whose tasks the two bad ones are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Episode, batch_idx: int
    ) -> None:
        if batch_idx in (4, 5):
            batch.support.x[:] = torch.inf
        elif batch_idx == 1 and trainer.is_global_zero:
            batch.support.x[:2] = torch.nan

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step == 3 and trainer.is_global_zero:
            next(pl_module.parameters()).grad.view(-1)[0] = torch.nan

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if args[-1] == 4:  # the first of the two meta-batches of step 2
            trainer.save_checkpoint(self.folder / "middle.ckpt")

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Episode, batch_idx: int, *args: Any
    ) -> None:
        if batch_idx == 0 and trainer.is_global_zero:
            batch.support.x[0] = torch.nan


def run(folder: Path, devices: int) -> None:
    torch.manual_seed(0)
    maml = MAML(MLP(1, [8], 1), GradientDescent(0.01, 2), nn.MSELoss())
    optimizer = partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, amsgrad=True)
    model = MetaLearner(maml, nn.MSELoss(), MeanSquaredError(), optimizer)
    data = EpisodeDataModule(
        SinusoidTasks(3, 4), meta_batch_size=4, episodes_per_epoch=48, val_episodes=8
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        accumulate_grad_batches=2,
        max_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=CSVLogger(folder, name=None, version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Poison(folder)],
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    middle = torch.load(folder / "middle.ckpt", weights_only=True)["guard"]
    record = {
        "weights": [parameter.tolist() for parameter in model.parameters()],
        "guard": model._guard.state_dict(model),
        "middle": middle,
    }
    model._guard.load_state_dict(middle, model)
    record["loaded"] = model._guard.state_dict(model)
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(record))


def logged(folder: Path) -> dict[str, list[tuple[int, float]]]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [(int(r["step"]), float(r[key])) for r in rows if r[key]] for key in KEYS}


def test_two_processes_agree_on_what_is_skipped_and_left_out(tmp_path: Path) -> None:
    found, rows = {}, {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        command = [sys.executable, __file__, str(folder), str(devices)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        files = [folder / f"rank{rank}.json" for rank in range(devices)]
        found[devices] = [json.loads(file.read_text()) for file in files]
        rows[devices] = logged(folder)
    (alone,), (first, second) = found[1], found[2]
    assert rows[1]["guard/skipped_steps"] == [(2, 1), (3, 2)]
    assert rows[1]["train/masked_tasks"] == [(0, 2), (2, 8)]
    assert rows[1]["val/masked_tasks"] == [(5, 1)]
    for key in KEYS[:3]:
        assert rows[2][key] == rows[1][key], key
    assert [step for step, _ in rows[2]["val/loss"]] == [5]
    assert abs(rows[2]["val/loss"][0][1] / rows[1]["val/loss"][0][1] - 1) < 1e-4
    assert first["weights"] == second["weights"]
    assert first["guard"] == second["guard"] == alone["guard"]
    assert first["middle"] == alone["middle"] == first["loaded"] == second["loaded"]
    assert alone["middle"]["step_masked"] == alone["middle"]["step_count"] == 4
    for a, b in zip(first["weights"], alone["weights"], strict=True):
        torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
