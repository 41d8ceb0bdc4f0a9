"""Runs that are killed with SIGKILL again and again, against runs that are not.

Every run is killed at random times, and at chosen ones: in the middle of writing a checkpoint,
before and after it takes its name, in the middle of a row of metrics, at the edges of epochs and
validations. It goes on with `--ckpt_path auto` until it ends. Then episodes and losses of every
step that was ever taken, metrics, weights, optimizer and schedule must be those of the run that was
never killed, bit for bit; at no time may a checkpoint be damaged, and nothing unfinished may be
left.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from forked import Outcome, run_forked
from report import Measurement, print_rows
from victim import VARIANTS, arguments, differences, newest_run
from victim_parts import Record, die, let_die

from metalit.checkpoints import load_checkpoint
from metalit.loggers import CSV
from metalit.main import main as metalit

LIMIT = 120.0  # seconds of a run that nobody kills
MOST = 12  # kills of one run


def half_of_a_file(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `torch.save` that dies in the middle."""

    def save(content: Any, file: Path) -> None:
        original(content, file)
        os.truncate(file, file.stat().st_size // 2)
        die()

    return save


MOMENTS: dict[str, tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "half of a checkpoint": (torch, "save", half_of_a_file),
    "before fsync": (os, "fsync", lambda _: die),
    "before the predecessor": (os, "link", lambda _: die),
    "before the name": (Path, "replace", lambda _: die),
    "before a row": (CSV, "_append", lambda _: die),
    "a validation": (Record, "on_validation_batch_end", lambda _: die),
    "a step": (Record, "on_train_batch_end", lambda _: die),
}


def train(arguments: list[str], moment: str | None = None, call: int = 0) -> None:
    """Train; die at some call of the function of a moment."""
    if moment is not None:
        let_die(*MOMENTS[moment], call)
    sys.argv = ["metalit"]
    metalit(arguments)


def run_once(folder: Path, variant: str, limit: float = LIMIT, **how: Any) -> Outcome:
    return run_forked(partial(train, arguments(folder, variant), **how), folder, limit)


def damaged(folder: Path) -> list[str]:
    """Return the checkpoints of a run folder that cannot be read."""
    found = []
    for file in newest_run(folder).glob("checkpoints/*.ckpt") if (folder / "runs").exists() else ():
        try:
            load_checkpoint(file)
        except ValueError:
            found.append(file.name)
    return found


def kill_until_done(
    folder: Path, variant: str, whole: Path, seconds: float, most: int, draw: random.Random
) -> tuple[dict[str, int], list[str]]:
    """Kill a run up to a number of times; return the kills by moment, and what went wrong."""
    kills: dict[str, int] = {}
    wrong: list[str] = []
    while True:
        moment, limit, how = "any time", LIMIT, {}
        if sum(kills.values()) >= most:
            pass
        elif draw.random() < 0.5:
            limit = draw.uniform(0.2, 1.0) * seconds
        else:
            moment = draw.choice(list(MOMENTS))
            how = {"moment": moment, "call": draw.randrange(12)}
        outcome = run_once(folder, variant, limit, **how)
        if outcome.code == 0:
            break
        if outcome.code not in (None, -9) or sum(kills.values()) >= most:
            return kills, [*wrong, f"exit code {outcome.code}: {outcome.complained[-500:]}"]
        kills[moment] = kills.get(moment, 0) + 1
        wrong += [f"{name} is damaged after a kill at {moment}" for name in damaged(folder)]
    run = newest_run(folder)
    wrong += [f"{file.name} is left" for file in run.rglob("*") if file.name.endswith(".writing")]
    return kills, wrong + differences(folder, whole)


def main(argv: Sequence[str]) -> int:
    measurement = Measurement("kills", __doc__, 200)
    options = measurement.parse(argv)
    draw = random.Random(options.seed)
    total: dict[str, int] = {}
    faults: list[str] = []
    lives = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        lengths: dict[str, float] = {}
        while sum(total.values()) < options.count:
            variant = list(VARIANTS)[lives % len(VARIANTS)]
            whole = root / f"whole_{list(VARIANTS).index(variant)}"
            if variant not in lengths:
                began = time.monotonic()
                outcome = run_once(whole, variant)
                lengths[variant] = time.monotonic() - began
                assert outcome.code == 0, outcome.complained
            most = min(MOST, options.count - sum(total.values()))
            folder = root / f"run_{lives}"
            kills, wrong = kill_until_done(folder, variant, whole, lengths[variant], most, draw)
            for moment, number in kills.items():
                total[moment] = total.get(moment, 0) + number
            faults += [f"run {lives} ({variant}): {fault}" for fault in wrong]
            print(f"run {lives}: {sum(kills.values())} kills, {len(wrong)} differences", flush=True)
            lives += 1
    print_rows([("killed at", "kills"), *sorted(total.items()), ("in all", sum(total.values()))])
    print(*faults, sep="\n")
    result = {"kills": total, "runs": lives, "variants": list(VARIANTS), "faults": faults}
    return measurement.write(result, len(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
