"""What it costs that a run cannot be lost: a step with and without, and saving against torch.save.

Three things are timed, each by turns with what it is compared to, in one process on one thread:

- saving a checkpoint, against `torch.save` of the same: what training waits for where
  `LastCheckpoint` saves, and how long it takes until the checkpoint is known to be whole, which
  `ModelCheckpoint` waits for; for checkpoints of several sizes;
- a meta-step of the small MLP workload (32 tasks, 5 steps) in `Trainer.fit`, with `LastCheckpoint`
  at its default intervals and `SafeCheckpointIO`, against the same without any checkpoint;
- the guards alone: their share of that step, from the time spent in them.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from report import Measurement, print_rows
from torch import nn
from torch.utils.data import TensorDataset

from metalit import EpisodeDataModule, MetaLearner
from metalit.callbacks import LastCheckpoint
from metalit.checkpoints import SafeCheckpointIO
from metalit.guards import StepGuard
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy
from metalit.networks import MLP
from metalit.tasks import LabelTasks

SIZES = (10_000, 112_000, 2_000_000)  # weights: a small MLP, Conv4-64, a ResNet-12 of half width


def checkpoint_of(weights: int) -> dict[str, Any]:
    """A checkpoint of 20 tensors, with Adam's two moments of each."""
    state = {f"weight{i}": torch.randn(weights // 20) for i in range(20)}
    moments = {
        i: {"step": torch.tensor(1.0), "exp_avg": w.clone(), "exp_avg_sq": w.clone()}
        for i, w in enumerate(state.values())
    }
    return {"state_dict": state, "optimizer_states": [{"state": moments}]}


def clock(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - began)


def saving(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Time the ways to save, in milliseconds."""
    found = []
    for weights in SIZES:
        checkpoint, files = checkpoint_of(weights), SafeCheckpointIO()
        safe, plain = folder / "safe.ckpt", folder / "plain.ckpt"
        files.save_checkpoint(checkpoint, safe)  # the first is waited for
        times: dict[str, list[float]] = {"torch.save": [], "waited": [], "whole": []}
        for _ in range(rounds):
            times["torch.save"].append(clock(partial(torch.save, checkpoint, plain)))
            waited = clock(partial(files.save_checkpoint, checkpoint, safe, {"wait": False}))
            times["waited"].append(waited)
            times["whole"].append(waited + clock(files.wait))
        pairs = zip(times["waited"], times["torch.save"], strict=True)
        ratios = sorted(a / b for a, b in pairs)
        found.append(
            {
                "megabytes": round(safe.stat().st_size / 1e6, 2),
                **{name: round(statistics.median(each), 2) for name, each in times.items()},
                "ratio": round(statistics.median(ratios), 3),
            }
        )
    return found


def rows(split: str) -> TensorDataset:
    """A thousand rows of ten columns, of fifty classes."""
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(1000, 10, generator=generator), torch.arange(1000) % 50)


class Clock(Callback):
    """Takes the time of every step from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.times.append(time.perf_counter())

    def steps(self) -> list[float]:
        """Milliseconds of each step but the first few."""
        return [1e3 * (b - a) for a, b in zip(self.times[9:], self.times[10:], strict=False)]


def fit(folder: Path, steps: int, safe: bool) -> tuple[list[float], Any]:
    """Train the MLP workload; return milliseconds of the steps and the trainer."""
    torch.manual_seed(0)
    maml = MAML(MLP(10, [64, 64], 5), GradientDescent(0.01, 5), nn.CrossEntropyLoss())
    model = MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy())
    data = EpisodeDataModule(
        LabelTasks(5, 5, 15), rows, meta_batch_size=32, episodes_per_epoch=32 * steps
    )
    times = Clock()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=safe,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[times, *([LastCheckpoint(str(folder))] if safe else [])],
        plugins=[SafeCheckpointIO()] if safe else [],
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    return times.steps(), trainer


def share_of(names: Sequence[tuple[type, str]], run: Callable[[], list[float]]) -> float:
    """Return the share of the steps' time that is spent in some methods."""
    spent = [0.0]
    originals = [(owner, name, getattr(owner, name)) for owner, name in names]
    try:
        for owner, name, original in originals:

            def timed(*given: Any, _original: Any = original, **named: Any) -> Any:
                began = time.perf_counter()
                try:
                    return _original(*given, **named)
                finally:
                    spent[0] += 1e3 * (time.perf_counter() - began)

            setattr(owner, name, timed)
        steps = run()
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
    return spent[0] / sum(steps)


def main(argv: Sequence[str]) -> int:
    measurement = Measurement("cost", __doc__, 15)
    measurement.parser.add_argument("--steps", type=int, default=60, help="of a run")
    options = measurement.parse(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        saved = saving(folder, options.count)
        print_rows([tuple(saved[0]), *(tuple(row.values()) for row in saved)])
        ratios, medians = [], []
        for number in range(max(3, options.count // 3)):
            order = (True, False) if number % 2 else (False, True)
            times = {safe: statistics.median(fit(folder, options.steps, safe)[0]) for safe in order}
            ratios.append(times[True] / times[False])
            medians.append(times)
        parts = [
            (LastCheckpoint, "on_train_batch_end"),
            (StepGuard, "end_step"),
            (StepGuard, "add_tasks"),
        ]
        share = share_of(parts, lambda: fit(folder, options.steps, True)[0])
    step = statistics.median(times[False] for times in medians)
    interval = LastCheckpoint().every_minutes or 1.0
    # a run of hours saves every few minutes, which runs of seconds do not show
    saves = saved[1]["waited"] / (interval * 60e3)
    result = {
        "saving": saved,
        "step_ms": round(step, 2),
        "step_ratio": round(statistics.median(ratios), 4),
        "step_ratios": [round(ratio, 4) for ratio in sorted(ratios)],
        "share_of_callback_and_guards": round(share, 5),
        "share_of_saving": round(saves, 7),
    }
    print_rows(list(result.items())[1:])
    broken = sum(row["ratio"] > 1.2 for row in saved) + (share + saves > 0.02)
    return measurement.write(result, broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
