"""A small run that is killed, and what must be equal when it has been finished all the same."""

import csv
from pathlib import Path
from typing import Any

import torch

BASE = """
model:
  class_path: MetaLearner
  init_args:
    learner: {class_path: MAML, init_args: {network: victim_parts.Net, inner_loss:
      torch.nn.CrossEntropyLoss, inner_loop: {class_path: GradientDescent, init_args: {lr: 0.1}}}}
    loss: torch.nn.CrossEntropyLoss
    metric: Accuracy
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
    lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 7}}
data:
  class_path: EpisodeDataModule
  init_args:
    dataset: Digits
    tasks: {class_path: AugmentationTasks, init_args: {way: 3, shot: 1, query_shot: 2,
      augmentation: {class_path: Noise, init_args: {std: 0.2}}}}
    val_tasks: {class_path: LabelTasks, init_args: {way: 3, shot: 1, query_shot: 2}}
    meta_batch_size: 4
    episodes_per_epoch: 48
    val_episodes: 16
trainer:
  default_root_dir: runs
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  num_sanity_val_steps: 0
  callbacks: [victim_parts.Record]
last_checkpoint: {every_n_train_steps: 3}
"""
SGD = "--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.05, momentum: 0.9}}"
VARIANTS = {
    "MAML": [],
    "ANIL, accumulation, validation in between, 2 workers": [
        "--model.learner.adapt=4.*",
        "--trainer.accumulate_grad_batches=3",
        "--trainer.val_check_interval=5",
        "--data.num_workers=2",
    ],
    "first order, clipping, validation every second epoch, saving every step": [
        "--model.learner.inner_loop.first_order=true",
        "--trainer.gradient_clip_val=0.5",
        "--trainer.check_val_every_n_epoch=2",
        "--last_checkpoint.every_n_train_steps=1",
        SGD,
    ],
    "prototypes, steps instead of epochs": [
        "--model.learner={class_path: Prototypes, init_args: {network: victim_parts.Net}}",
        "--trainer.max_steps=31",
        "--trainer.max_epochs=-1",
    ],
}
STATES = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")


def arguments(folder: Path, variant: str, *more: str) -> list[str]:
    """Write the configuration into a folder; return the arguments that begin or go on with it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.yaml").write_text(BASE)
    return ["fit", "--config", "run.yaml", "--ckpt_path", "auto", *VARIANTS[variant], *more]


def newest_run(folder: Path) -> Path:
    """Return the newest run folder."""
    return max((folder / "runs").glob("version_*"), key=lambda run: int(run.name[8:]))


def differences(folder: Path, whole: Path) -> list[str]:
    """Return in what a run that was killed differs from one that was not: nothing, at best."""
    found = []
    one, other = newest_run(folder), newest_run(whole)
    if _rows(one / "metrics.csv") != _rows(other / "metrics.csv"):
        found.append("metrics.csv")
    for name in ("last", "best"):
        states = [
            torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
            for run in (one, other)
        ]
        found += [f"{name}.{key}" for key in STATES if not equal(*(s[key] for s in states))]
    return found + sorted(record_differences(folder, whole))


def record_differences(folder: Path, whole: Path) -> set[str]:
    """Return the batches whose episodes or loss were ever others than those of the whole run."""
    expected = dict(_record(whole))
    return {what for what, value in _record(folder) if expected.get(what) != value}


def equal(one: Any, other: Any) -> bool:
    """Compare two nested states bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def _rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


def _record(folder: Path) -> list[tuple[str, str]]:
    """Return batch and value of every whole line."""
    lines = (folder / "record.txt").read_text().splitlines()
    pairs = [line.split(" = ") for line in lines if line.count(" = ") == 1]
    return [(what, value) for what, value in pairs if len(value.split()) == 2 and "p" in value]
