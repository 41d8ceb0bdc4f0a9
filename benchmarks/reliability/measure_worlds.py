"""Trains by the command line with 1, 2 and 4 processes and 0, 2 and 4 workers: the same run.

The run has dropout, augmentation on the device, accumulation and validation between. The episodes
of each batch, as the learner sees them, must be those of one process without workers, bit for bit
and in their order; the loss of each batch of training and validation, averaged over the processes,
must be within 1e-6 in float32. Runs that are stopped in the middle of an epoch and go on in a world
of another size are compared with the same run.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from report import Measurement, print_rows
from small_run import CONFIG, write_files

LIMIT = 1e-6
SECONDS = 600  # of one command
STOP_AT = 7  # batches, in the middle of the second epoch
CELLS = [(processes, workers) for processes in (1, 2, 4) for workers in (0, 2, 4)]
RESUMED = [((1, 0), (2, 2)), ((2, 0), (4, 0)), ((4, 2), (1, 0))]


class Batch(NamedTuple):
    """The episodes of a batch, over all processes, and its mean loss."""

    episodes: list[str]
    loss: float


def main(argv: Sequence[str]) -> int:
    """Run all cells."""
    measurement = Measurement("worlds", __doc__, len(CELLS))
    measurement.parser.add_argument("--resumed", type=int, default=len(RESUMED))
    options = measurement.parse(argv)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        whole = run_cell(Path(name) / "whole", [(1, 0)])
        for cell in CELLS[: options.count]:
            found = run_cell(Path(name) / f"{cell}", [cell])
            rows.append({"cells": [cell], **compare(whole, found)})
        for pair in RESUMED[: options.resumed]:
            found = run_cell(Path(name) / f"{pair}", pair)
            rows.append({"cells": pair, **compare(whole, found)})
    table = [["processes x workers", "batches", "other episodes", "train loss", "val loss"]]
    for row in rows:
        title = ", then ".join(f"{processes} x {workers}" for processes, workers in row["cells"])
        losses = (f"{row[stage]:.1e}" for stage in ("train", "val"))
        table.append([title, row["batches"], row["other episodes"], *losses])
    print_rows(table)
    broken = sum(
        row["other episodes"] > 0 or row["train"] > LIMIT or row["val"] > LIMIT for row in rows
    )
    return measurement.write({"limit": LIMIT, "rows": rows}, broken)


def run_cell(folder: Path, cells: Sequence[tuple[int, int]]) -> dict[str, Batch]:
    """Run the first cell, and go on with the others from where the one before was stopped.

    Returns:
        What happened, by the name of the batch.
    """
    write_files(folder, config())
    for number, (processes, workers) in enumerate(cells):
        words = [sys.executable, "-m", "metalit", "fit", "--config", "config.yaml"]
        words += ["--data.num_workers", str(workers), "--trainer.devices", str(processes)]
        words += ["--trainer.strategy", "ddp"] if processes > 1 else []
        words += ["--ckpt_path", "last"] if number else []
        stopped = number < len(cells) - 1
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "STOP_AT": str(STOP_AT if stopped else -1),
        }
        done = subprocess.run(
            words,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != (143 if stopped else 0):
            raise RuntimeError(f"{words}: exit code {done.returncode}, {done.stdout}{done.stderr}")
        for rank in range(processes):  # beside those of the runs before
            (folder / f"{rank}.txt").rename(folder / f"run{number}_{rank}.txt")
    found: dict[str, Batch] = {}
    for number, (processes, _) in enumerate(cells):
        texts = [(folder / f"run{number}_{rank}.txt").read_text() for rank in range(processes)]
        again = read(texts)
        twice = found.keys() & again.keys()
        if any(name.startswith("train") for name in twice):
            raise RuntimeError(f"{twice} were trained on twice in {folder.name}")
        found |= again
    return found


def config() -> str:
    """Return the configuration: 3 epochs of 5 meta-batches, each 4 episodes."""
    loaded = yaml.safe_load(CONFIG)
    arguments = loaded["data"]["init_args"]
    arguments |= {"meta_batch_size": 4, "episodes_per_epoch": 20, "val_episodes": 8}
    arguments["val_tasks"] = arguments["tasks"]
    arguments["tasks"] = {
        "class_path": "AugmentationTasks",
        "init_args": {
            "way": 2,
            "shot": 2,
            "query_shot": 3,
            "augmentation": {"class_path": "Noise", "init_args": {"std": 0.1}},
        },
    }
    loaded["model"]["init_args"]["learner"]["init_args"]["network"] = "world_parts.Net"
    loaded["trainer"] |= {
        "max_epochs": 3,
        "accumulate_grad_batches": 2,
        "callbacks": ["world_parts.Record"],
    }
    return yaml.safe_dump(loaded)


def read(ranks: Sequence[str]) -> dict[str, Batch]:
    """Join what the processes wrote down, in the order of the ranks."""
    lines = [[line.split() for line in text.splitlines()] for text in ranks]
    found = {}
    for parts in zip(*lines, strict=True):
        names, digests, losses = zip(*parts, strict=True)
        if len(set(names)) > 1:
            raise RuntimeError(f"the processes did not do the same: {names}")
        episodes = [each for part in digests for each in part.split(",")]
        mean = sum(float.fromhex(loss) for loss in losses) / len(losses)
        found[names[0]] = Batch(episodes, mean)
    return found


def compare(whole: dict[str, Batch], found: dict[str, Batch]) -> dict[str, float]:
    """Return how many batches there are, how many differ, and the largest differences of losses."""
    common = whole.keys() & found.keys()
    other = len(whole.keys() ^ found.keys())
    other += sum(whole[name].episodes != found[name].episodes for name in common)
    apart = {
        stage: max(
            (abs(whole[n].loss - found[n].loss) for n in common if n.startswith(stage)), default=9.0
        )
        for stage in ("train", "val")
    }
    return {"batches": len(found), "other episodes": other, **apart}
