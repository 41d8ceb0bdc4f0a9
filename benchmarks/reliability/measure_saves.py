"""A process that saves one checkpoint after another and is killed, on one device and on two.

Half of the kills come at random times, the others at one call of what writing consists of. TMPDIR
is once on the device of the checkpoints and once on another, where there is one (`--other`). After
every kill there must be a checkpoint that is whole, and as new as the last one that was known to
be saved; after the next start, nothing unfinished is left.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from forked import run_forked
from measure_kills import half_of_a_file
from report import Measurement, print_rows
from victim_parts import die, let_die

from metalit.checkpoints import SafeCheckpointIO, load_checkpoint, sweep

MOMENTS: dict[str, tuple[Any, str, Any]] = {
    "half of a checkpoint": (torch, "save", half_of_a_file),
    "before fsync": (os, "fsync", lambda _: die),
    "before the predecessor": (os, "link", lambda _: die),
    "before a name": (Path, "replace", lambda _: die),
}
SECONDS = 0.6  # within which a kill comes at random


def save_for_ever(folder: Path, values: int, moment: str | None, call: int) -> None:
    """Save numbered checkpoints; write down which are known to be saved."""
    if moment is not None:
        let_die(*MOMENTS[moment], call)
    files = SafeCheckpointIO()
    file = folder / "last.ckpt"
    number = load_checkpoint(file)["number"] if file.exists() else -1
    while True:
        number += 1
        state = {"weight": torch.full((values,), float(number))}
        files.save_checkpoint({"state_dict": state, "number": number}, file)
        if number % 3 == 0:  # else the next one waits for it
            files.wait()
            (folder / "known").write_text(str(number))


def faults_of(folder: Path, known: int) -> list[str]:
    """Return what is wrong with the checkpoint after a kill."""
    file = folder / "last.ckpt"
    if not file.exists():
        return ["there is no checkpoint"] if known >= 0 else []
    try:
        checkpoint = load_checkpoint(file)
    except ValueError as error:
        return [str(error)]
    number, weight = checkpoint["number"], checkpoint["state_dict"]["weight"]
    wrong = [] if bool((weight == number).all()) else ["the weights are of another checkpoint"]
    return wrong if number >= known else [*wrong, f"{number} is older than {known}"]


def kill_often(folder: Path, kills: int, values: int, draw: random.Random) -> tuple[Any, list[str]]:
    """Kill that many times; return kills by moment and what was wrong."""
    counts: dict[str, int] = {}
    faults: list[str] = []
    folder.mkdir()
    while sum(counts.values()) < kills:
        moment = draw.choice([None, *MOMENTS]) if draw.random() < 0.6 else None
        known = int(text) if (text := _read(folder / "known")) else -1
        run = partial(save_for_ever, folder, values, moment, draw.randrange(6))
        limit = 30.0 if moment else draw.uniform(0.02, SECONDS)
        outcome = run_forked(run, folder, limit)
        if outcome.code not in (None, -9):
            return counts, [*faults, f"exit code {outcome.code}: {outcome.complained[-500:]}"]
        counts[moment or "any time"] = counts.get(moment or "any time", 0) + 1
        known = max(known, int(text) if (text := _read(folder / "known")) else -1)
        faults += faults_of(folder, known)
        sweep(folder)
        left = {file.name for file in folder.iterdir()} - {"last.ckpt", "last.previous.ckpt"}
        faults += [f"{name} is left" for name in left - {"known"}]
    return counts, faults


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def main(argv: Sequence[str]) -> int:
    measurement = Measurement("saves", __doc__, 200)
    measurement.parser.add_argument("--values", type=int, default=300_000, help="of a checkpoint")
    measurement.parser.add_argument("--other", type=Path, default=Path("/dev/shm"))
    options = measurement.parse(argv)
    draw = random.Random(options.seed)
    result: dict[str, Any] = {"megabytes": options.values * 4 / 1e6}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        places = {"same device": Path(temporary)}
        if options.other.is_dir() and options.other.stat().st_dev != os.stat(temporary).st_dev:
            places["another device"] = options.other
        for place, folder in places.items():
            os.environ["TMPDIR"] = str(folder)
            began = time.monotonic()
            target = Path(temporary, place.replace(" ", "_"))
            counts, wrong = kill_often(target, options.count, options.values, draw)
            faults += [f"TMPDIR on {place}: {fault}" for fault in wrong]
            result[place] = {"kills": counts, "seconds": round(time.monotonic() - began, 1)}
            print_rows([("TMPDIR on", place), *sorted(counts.items())])
    print(*faults, sep="\n")
    return measurement.write({**result, "faults": faults}, len(faults))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
