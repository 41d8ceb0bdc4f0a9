"""SIGTERM, SIGINT and SIGUSR1 to a run: is it gone in time, with the right code, and exactly saved?

Each of TERM, INT and USR1 goes to the first process of a run or to all of its process group, with 0
or 2 workers and 1 or 2 processes; in every other case validation is going on. The run must leave
within 30 seconds with 143, 130 or 0, and end, when it goes on, as one that was never stopped.
"""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import Measurement, print_rows
from victim import arguments, differences

SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 0}
LIMIT = 30.0


def start(folder: Path, *more: str, seconds: float = 0.0) -> "subprocess.Popen[str]":
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "disabled",
        "VICTIM_SECONDS": str(seconds),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "metalit", *arguments(folder, "MAML", *more)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(folder: Path, what: str, run: "subprocess.Popen[str]") -> None:
    """Wait until the record of a run shows something."""
    record, deadline = folder / "record.txt", time.monotonic() + 120
    while not (record.exists() and what in record.read_text()):
        if run.poll() is not None or time.monotonic() > deadline:
            run.kill()
            raise RuntimeError(f"the run did not come to {what!r}: {run.communicate()[0][-800:]}")
        time.sleep(0.02)


def stop_and_go_on(
    folder: Path, whole: Path, number: signal.Signals, to: str, options: Sequence[str], when: str
) -> dict[str, Any]:
    """Stop a run in a folder by a signal; return how it left, and how it ended after that."""
    run = start(folder, *options, seconds=0.25)
    wait_for(folder, when, run)
    began = time.monotonic()
    (os.killpg if to == "group" else os.kill)(run.pid, number)
    try:
        said, _ = run.communicate(timeout=2 * LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        said, _ = run.communicate()
        said += "\nit did not leave"
    seconds = time.monotonic() - began
    faults = []
    if run.returncode != SIGNALS[number]:
        faults.append(f"exit code {run.returncode}: {said[-600:]}")
    if seconds > LIMIT:
        faults.append(f"left after {seconds:.0f} s")
    if is_alive(run.pid):
        faults.append("processes are left")
        os.killpg(run.pid, signal.SIGKILL)
    rest = start(folder, *options)
    said, _ = rest.communicate(timeout=240)
    faults += [f"code {rest.returncode}: {said[-600:]}"] if rest.returncode else []
    faults += [] if faults else differences(folder, whole)
    return {"seconds": round(seconds, 1), "code": run.returncode, "faults": faults}


def is_alive(group: int) -> bool:
    """Return whether a process of a group is left a moment later."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def cells() -> list[tuple[signal.Signals, str, int, int]]:
    """All of signal, target, workers and processes; those with one process first."""
    found = itertools.product((1, 2), (0, 2), SIGNALS, ("process", "group"))
    return [(number, to, workers, processes) for processes, workers, number, to in found]


def main(argv: Sequence[str]) -> int:
    measurement = Measurement("signals", __doc__, 24)
    options = measurement.parse(argv)
    rows: list[Sequence[object]] = [("signal", "to", "workers", "processes", "s", "code", "wrong")]
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        wholes: dict[int, Path] = {}
        for case, (number, to, workers, processes) in enumerate(cells()[: options.count]):
            devices = [f"--trainer.devices={processes}"]
            devices += ["--trainer.strategy=ddp"] if processes > 1 else []
            if processes not in wholes:
                wholes[processes] = Path(temporary, f"whole_{processes}")
                said, _ = start(wholes[processes], *devices).communicate(timeout=240)
                assert (wholes[processes] / "record.txt").exists(), said
            more = [*devices, f"--data.num_workers={workers}"]
            when = "val 24 0" if case % 2 else "train 15"
            folder = Path(temporary, f"case_{case}")
            found = stop_and_go_on(folder, wholes[processes], number, to, more, when)
            rows.append((number.name, to, workers, processes, *found.values()))
            keys = ("signal", "to", "workers", "processes", "when")
            results.append(
                dict(zip(keys, (number.name, to, workers, processes, when), strict=True)) | found
            )
            print(*rows[-1], flush=True)
    print_rows(rows)
    broken = sum(bool(result["faults"]) for result in results)
    slowest = max(result["seconds"] for result in results)
    return measurement.write({"slowest_seconds": slowest, "cells": results}, broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
