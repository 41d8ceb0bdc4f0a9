"""Where the time of a training step goes: `python benchmarks/profiling.py W1 W3 [CONFIG ...]`.

Built in are W1, Omniglot-like: Conv4-64 on 28 x 28 images, 4 tasks of 5 ways, 1 shot and 15 queries
a class, 1 inner step; and W3: an MLP 10-64-64-5, 32 tasks of 100 support and 100 query rows, 5
inner steps. Anything else is a config of a whole run. The name `profile` would hide Python's own.

Each round trains anew, one after the other: the bare loop (batches of the data module, `score`,
backward, optimizer) with 0 and with `--workers` worker processes, and `Trainer.fit` with metalit's
CSV logger, without and with the progress bar, which writes into memory, not to a terminal. Parts
are medians over steps, waits for data means, since workers deliver in bursts; ratios are medians
over rounds. Lightning, logging and checks are what fit takes beyond the bare loop, milliseconds a
step, with a learner that answers a constant, since they would drown in the noise of a real one.
"""

import argparse
import io
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from training import RESULTS, call, commit

from metalit import EpisodeDataModule, MetaLearner, Samples
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML, Learner
from metalit.loggers import CSV
from metalit.messages import calm
from metalit.metrics import Accuracy
from metalit.tasks import LabelTasks

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
AROUND = 200  # steps without a learner
PARTS = ("data", "forward", "backward", "optimizer")


def learned(network: nn.Module, inner_steps: int) -> MetaLearner:
    """MAML with its paper's losses around a network."""
    maml = MAML(network, GradientDescent(lr=0.1, steps=inner_steps), nn.CrossEntropyLoss())
    return MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy())


def images(split: str) -> TensorDataset:
    """1,000 classes of 20 random images in the size of Omniglot."""
    random = torch.Generator().manual_seed(0)
    x = torch.randint(256, (20_000, 1, 28, 28), dtype=torch.uint8, generator=random)
    return TensorDataset(x, torch.arange(20_000) // 20)


def table(split: str) -> TensorDataset:
    """20 classes of 100 random rows."""
    random = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(2000, 10, generator=random), torch.arange(2000) // 100)


def w1() -> tuple[MetaLearner, EpisodeDataModule]:
    """Omniglot-like, 4 tasks and 1 inner step."""
    layers: list[nn.Module] = []
    for channels in (1, 64, 64, 64):
        norm = nn.BatchNorm2d(64, track_running_stats=False)
        layers += [nn.Conv2d(channels, 64, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 5))
    return learned(network, 1), EpisodeDataModule(LabelTasks(5, 1, 15), images, meta_batch_size=4)


def w3() -> tuple[MetaLearner, EpisodeDataModule]:
    """A small MLP, 32 tasks and 5 inner steps."""
    shape = [nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 5)]
    data = EpisodeDataModule(LabelTasks(5, 20, 20), table, meta_batch_size=32)
    return learned(nn.Sequential(*shape), 5), data


def of_config(config: str) -> tuple[Any, Any]:
    """The model and the data of a config, before training."""
    with tempfile.TemporaryDirectory() as folder:
        quick = ["--trainer.fast_dev_run", "true", "--trainer.default_root_dir", folder]
        run, _ = call("fit", config, *quick)
    return run.model, run.datamodule


@contextmanager
def fresh(parts: tuple[Any, Any], steps: int, workers: int) -> Iterator[tuple[Any, Any]]:
    """Copies of a model and its data that nobody has trained with."""
    model, data = parts
    trainers = model._trainer, data.trainer
    model._trainer = data.trainer = None
    copied, its_data = deepcopy(model), deepcopy(data)
    model._trainer, data.trainer = trainers
    its_data.episodes_per_epoch = steps * its_data.meta_batch_size
    its_data.num_workers = workers
    yield copied.train(), its_data


def bare(model: Any, data: Any, now: Callable[[], float]) -> tuple[dict[str, list[float]], float]:
    """Train without Lightning; return the seconds of each part, step by step, and the total."""
    data.setup("fit")
    optimizer = model.optimizer(model.parameters())
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    loader = data.train_dataloader()
    begin = last = now()

    def note(part: str) -> None:
        nonlocal last
        then, last = last, now()
        times[part].append(last - then)

    batches = iter(loader)
    while (batch := next(batches, None)) is not None:
        episodes = data.on_after_batch_transfer(batch, 0)
        note("data")
        loss: Tensor = model.score(episodes)[0]
        note("forward")
        optimizer.zero_grad()
        loss.backward()
        note("backward")
        optimizer.step()
        note("optimizer")
    return times, last - begin


class Constant(Learner):
    """Answers one number to everything, so that a step is what is around the learner."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.shape = shape
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Return outputs of the shape `(Q, K)` that the real learner gives."""
        return self.weight.expand(self.shape)


def around(parts: tuple[Any, Any]) -> tuple[Any, Any]:
    """The same without its learner."""
    with fresh(parts, 1, 0) as (model, data):
        data.setup("fit")
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        model.learner = Constant(model(batch).shape[1:])
    return model, data


class Clock(Callback):
    """Seconds from the first step of training to the last."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.total = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start."""
        self.total -= self.now()

    def on_train_end(self, *_: Any) -> None:
        """Stop."""
        self.total += self.now()


def fit(
    model: Any, data: Any, clock: Clock, bar: bool = False, profiler: SimpleProfiler | None = None
) -> None:
    """Train with Lightning."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            logger=CSV(folder),
            callbacks=[clock],
            profiler=profiler,
            log_every_n_steps=10,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=bar,
            default_root_dir=folder,
        )
        trainer.fit(model, data)


def measure(
    parts: tuple[Any, Any], steps: int, rounds: int, workers: int, now: Callable[[], float]
) -> dict[str, Any]:
    """Measure all ways of training, round after round; milliseconds and ratios."""
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    found: dict[str, list[float]] = {}
    empty = around(parts)

    def keep(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(rounds):
        with fresh(parts, steps, 0) as made:
            its, alone = bare(*made, now)
        for part in PARTS:
            times[part] += its[part]
        keep("step_ms", 1e3 * alone / steps)
        keep("waits_0_workers", sum(its["data"]) / alone)
        with fresh(parts, steps, workers) as made:
            its, _ = bare(*made, time.perf_counter)
        # without the first steps, in which workers start and fill their queues
        settled = {part: sum(values[1 + 2 * workers :]) for part, values in its.items()}
        keep(f"waits_{workers}_workers", settled["data"] / sum(settled.values()))
        with fresh(empty, AROUND, 0) as made:
            _, nothing = bare(*made, now)
        for name, bar in (("fit", False), ("fit_with_bar", True)):
            for these, count, base in ((parts, steps, alone), (empty, AROUND, nothing)):
                clock = Clock(now)
                with fresh(these, count, 0) as made:
                    fit(*made, clock, bar)
                if these is parts:
                    keep(f"{name}_to_bare", clock.total / base)
                else:
                    keep(f"{name}_beyond_ms", 1e3 * (clock.total - base) / count)
    with fresh(parts, steps, 0) as made, tempfile.TemporaryDirectory() as folder:
        profiler = SimpleProfiler(folder, "profile")  # which would print without a file
        fit(*made, Clock(now), profiler=profiler)
    actions = {name: 1e3 * sum(s) / steps for name, s in profiler.recorded_durations.items()}
    return {
        **{f"{part}_ms": 1e3 * median(values) for part, values in times.items()},
        **{name: median(values) for name, values in found.items()},
        "rounds": found,
        "lightning_actions_ms": dict(sorted(actions.items(), key=lambda item: -item[1])[:25]),
    }


def show(name: str, row: dict[str, Any], workers: int) -> str:
    """One workload in a few lines."""
    parts = ", ".join(f"{part} {row[f'{part}_ms']:.2f}" for part in PARTS)
    return (
        f"{name}: a bare step takes {row['step_ms']:.2f} ms ({parts})\n"
        f"  data waits: {row['waits_0_workers']:.1%} of a step without workers, "
        f"{row[f'waits_{workers}_workers']:.1%} with {workers}\n"
        f"  Lightning, logging and checks: {row['fit_beyond_ms']:.2f} ms a step, fit takes "
        f"{row['fit_to_bare']:.3f} of the bare loop; with the bar "
        f"{row['fit_with_bar_beyond_ms']:.2f} ms, {row['fit_with_bar_to_bare']:.3f}"
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=["W1", "W3"], help="W1, W3 or configs")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu where others work")
    parser.add_argument("--results", type=Path, default=RESULTS / "profile.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    calm()
    known: dict[str, Callable[[], tuple[Any, Any]]] = {"W1": w1, "W3": w3}
    rows = {}
    for name in options.workloads:
        made = known[name]() if name in known else of_config(name)
        rows[name] = measure(
            made, options.steps, options.rounds, options.workers, CLOCKS[options.clock]
        )
        print(show(name, rows[name], options.workers), flush=True)
    result = {
        "command": " ".join(["python", "benchmarks/profiling.py", *sys.argv[1:]]),
        "commit": commit(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "clock": options.clock,
        "workloads": rows,
    }
    options.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
