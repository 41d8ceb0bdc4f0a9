"""Tasks per second of `Trainer.fit` in one process and in two, which share every meta-batch.

    python benchmarks/meta_step scaling [--workloads w1-k1-t32 w3-k5-t256 ...] [--rounds 5]
        [--steps N] [--option NAME=VALUE] [--inner NAME=VALUE] [--out meta_step_scaling]

Lightning's strategy ddp over gloo, one thread a process, with an `EpisodeDataModule` of random rows
held in memory; no logger, no checkpoints, no validation. First the loss and the gradient of the
first step of two processes are compared in float64 with those of one: if they differ by more than
1e-6 of it, nothing is timed. Then each round trains anew, in processes started for it:

    one     one process
    two     two processes, half of the meta-batch each
    apart   two processes that know nothing of each other, half of the meta-batch each: what the
            machine gives to two processes at once, and a smaller meta-batch to each of them

A step's seconds are the time from one end of a batch to the next in the first process, their median
after the warm-up is that of the round; ratios are medians over rounds, with a 95 % bootstrap
interval. Two processes need two idle cores. Writes `benchmarks/results/meta_step_scaling.json`.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from torch import nn
from torch.utils.data import TensorDataset

from metalit import EpisodeDataModule
from metalit.messages import calm
from metalit.tasks import LabelTasks

from . import machine, variants
from .contenders import Make
from .timing import TOLERANCE, ratio
from .workloads import TITLES, Workload, draw

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, commit

STEPS = {"w1": 12, "w2": 12, "w3": 60}  # of a round by family, a few seconds each
WARM_UP = 3  # steps
CLASSES = 100
KINDS = {"one": [1], "two": [2], "apart": [1, 1]}  # processes of each training at a time
Record = dict[str, Any]


class Rows:
    """A data set in memory, with as many random rows a class as an episode takes."""

    def __init__(self, workload: Workload) -> None:
        self.per_class = (workload.support + workload.query) // workload.way
        self.shape = (CLASSES * self.per_class, *workload.in_shape)

    def __call__(self, split: str) -> TensorDataset:
        """Return the rows of a split, numbers in 0 to 1, the same for all."""
        x = torch.rand(self.shape, generator=torch.Generator().manual_seed(0))
        return TensorDataset(x, torch.arange(len(x)) // self.per_class)


class Notes(Callback):
    """When each step of a process ended, and loss and gradient of its first."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.first: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, model: nn.Module, *_: Any) -> None:
        """Keep the gradient of the first step, by now the mean of all processes."""
        if "gradient" not in self.first:
            parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            self.first["gradient"] = torch.cat(parts)

    def on_train_batch_end(self, trainer: Any, model: Any, outputs: Any, *_: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())
        self.first.setdefault("loss", outputs["loss"].detach().clone())


def train(
    make: Make, workload: Workload, steps: int, processes: int, precision: Any = "32-true"
) -> Record:
    """Train in this process, one of `processes`; return its notes."""
    shots = (rows // workload.way for rows in (workload.support, workload.query))
    data = EpisodeDataModule(
        LabelTasks(workload.way, *shots),
        Rows(workload),
        meta_batch_size=workload.tasks,
        episodes_per_epoch=steps * workload.tasks,
    )
    notes = Notes()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            devices=processes,
            strategy="ddp",
            precision=precision,
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            callbacks=[notes],
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            default_root_dir=folder,
        )
        trainer.fit(make(workload, draw(workload)).model, data)
    return {"ends": notes.ends, **notes.first}


def run(argv: Sequence[str], workload: Workload, kind: str, check: bool = False) -> list[Record]:
    """Train in processes of their own; return the notes of all of them, rank by rank."""
    groups = KINDS[kind]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as temporary:
        running = []
        for number, processes in enumerate(groups):
            folder = Path(temporary, str(number))
            folder.mkdir()
            tasks = workload.tasks // len(groups)
            options = [*argv, "--here", workload.name, str(tasks), str(folder)]
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(processes), str(Path(__file__).parent), "scaling"]
            command += [*options, *(["--double"] if check else [])]
            with (folder / "log").open("w") as log:
                running.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
        for number, process in enumerate(running):
            if process.wait():
                raise SystemExit(Path(temporary, str(number), "log").read_text())
        return [
            torch.load(Path(temporary, str(number), f"rank{rank}.pt"))
            for number, processes in enumerate(groups)
            for rank in range(processes)
        ]


def difference(alone: Sequence[Record], together: Sequence[Record]) -> dict[str, float]:
    """Return by how much loss and gradient of the first step differ, relative to those alone."""
    (one,) = alone
    losses = torch.stack([record["loss"] for record in together])
    off = {"loss": losses.mean() - one["loss"]}
    # every process must have the whole gradient
    gradients = torch.stack([record["gradient"] for record in together]) - one["gradient"]
    off["gradient"] = gradients.norm(dim=1).max()
    return {key: float(value.norm() / one[key].norm()) for key, value in off.items()}


def seconds_of(record: Record) -> list[float]:
    """Return those of every step after the warm-up."""
    return np.diff(record["ends"][WARM_UP - 1 :]).tolist()


def summarize(workload: Workload, rounds: dict[str, list[float]]) -> dict[str, Any]:
    """Turn tasks per second of every round into what is printed and kept."""
    return {
        "tasks per second": {kind: round(float(np.median(r)), 2) for kind, r in rounds.items()},
        "two / one": ratio(rounds["two"], rounds["one"]),
        "two / apart": ratio(rounds["two"], rounds["apart"]),
        "apart / one": ratio(rounds["apart"], rounds["one"]),
        "rounds": {kind: [round(value, 3) for value in r] for kind, r in rounds.items()},
    }


def measure(argv: Sequence[str], workload: Workload, rounds: int) -> dict[str, Any]:
    """Compare the first steps, then time all ways by turns."""
    alone, together = (run(argv, workload, kind, check=True) for kind in ("one", "two"))
    off = difference(alone, together)
    if not all(value <= TOLERANCE for value in off.values()):  # `max` may pass over NaN
        raise SystemExit(
            f"two processes differ from one at {workload.name}: loss by {off['loss']:.1e}, gradient"
            f" by {off['gradient']:.1e}, more than {TOLERANCE:.0e}: nothing is timed."
        )
    speeds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS:
            records = run(argv, workload, kind)
            # processes of one training end their steps together, those apart each for itself
            whole = records if kind == "apart" else records[:1]
            tasks = workload.tasks / len(whole)
            speeds[kind].append(sum(tasks / np.median(seconds_of(record)) for record in whole))
        line = ", ".join(f"{kind} {values[-1]:.1f}" for kind, values in speeds.items())
        print(f"{workload.name}, round {number + 1}: {line} tasks per second", flush=True)
    return {"difference in float64": off, **summarize(workload, speeds)}


def show(workload: Workload, found: dict[str, Any]) -> None:
    print(f"\n{workload.name}: {TITLES[workload.name[:2]]}; {workload.tasks} tasks")
    off = found["difference in float64"]
    print(
        f"first step of two processes: loss differs by {off['loss']:.0e}, gradient by "
        f"{off['gradient']:.0e} (float64)"
    )
    for kind, speed in found["tasks per second"].items():
        print(f"{kind:12}{speed:10.1f} tasks per second")
    for key in ("two / one", "two / apart", "apart / one"):
        middle, low, high = found[key]
        print(f"{key:12}{middle:10.2f} [{low:.2f}, {high:.2f}]", flush=True)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="meta_step scaling", description="Tasks per second of one process and of two."
    )
    found.add_argument(
        "--workloads",
        nargs="+",
        type=Workload.parse,
        metavar="NAME",
        default=[Workload.parse(name) for name in ("w1-k1-t32", "w3-k5-t256")],
    )
    variants.add_options(found)
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--steps", type=int, help=f"of a round; by family if not given: {STEPS}")
    found.add_argument("--out", default="meta_step_scaling", help="name of the file of results")
    found.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    hidden = argparse.SUPPRESS
    found.add_argument("--here", nargs=3, metavar=("POINT", "TASKS", "FOLDER"), help=hidden)
    found.add_argument("--double", action="store_true", help=hidden)
    return found


def train_here(options: argparse.Namespace) -> Record:
    """Be one of the processes, and write the notes down."""
    point, tasks, folder = options.here
    torch.set_num_threads(1)
    calm()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    workload = replace(Workload.parse(point), tasks=int(tasks))
    steps = 1 if options.double else WARM_UP + (options.steps or STEPS[workload.name[:2]])
    make = variants.ours(variants.shared(options))
    precision = "64-true" if options.double else "32-true"
    record = train(make, workload, steps, int(os.environ["WORLD_SIZE"]), precision)
    torch.save(record, Path(folder, f"rank{os.environ['RANK']}.pt"))
    return record


def main(argv: Sequence[str]) -> dict[str, Any]:
    options = parser().parse_args(argv)
    if options.here:
        return train_here(options)
    for workload in options.workloads:
        if workload.tasks % 2:
            raise SystemExit(f"{workload.name} has {workload.tasks} tasks, not an even number.")
    result: dict[str, Any] = {
        "command": machine.command(["scaling", *argv]),
        "commit": commit(),
        "machine": machine.describe(1, "cpu", tf32=False),
        "workloads": {},
    }
    print(json.dumps(result["machine"]))
    begin = time.perf_counter()
    for workload in options.workloads:
        found = measure(argv, workload, options.rounds)
        show(workload, found)
        result["workloads"][workload.name] = found
        result["seconds"] = round(time.perf_counter() - begin)
        options.results.mkdir(parents=True, exist_ok=True)
        (options.results / f"{options.out}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result
