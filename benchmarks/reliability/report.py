"""What the measurements of reliability share: options, and where results go."""

import argparse
import json
import os
import platform
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, commit


class Measurement:
    """One promise being tested: its options, its clock, and the file that it is written to.

    Args:
        name: Name of the module, without `measure_`.
        doc: Docstring of the module, whose first line `--help` shows.
        count: Number of cases by default.
    """

    def __init__(self, name: str, doc: str, count: int) -> None:
        self.name = name
        self.parser = argparse.ArgumentParser(
            prog=f"python benchmarks/reliability {name}", description=doc.splitlines()[0]
        )
        self.parser.add_argument("--count", type=int, default=count, help="number of cases")
        self.parser.add_argument("--seed", type=int, default=0)
        self.parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON")
        self._began = time.monotonic()

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Read the options."""
        torch.set_num_threads(1)  # children that are forked could not use several
        self._argv = list(argv)
        self.options = self.parser.parse_args(argv)
        self._commit = commit()
        return self.options

    def write(self, result: dict[str, Any], broken: int) -> int:
        """Print and write down a result; return the number of broken promises.

        Args:
            result: JSON primitives.
            broken: Cases in which the promise was not kept.
        """
        shown = [
            "FOLDER" if b == "--results" else w
            for b, w in zip(["", *self._argv], self._argv, strict=False)
        ]
        record = {
            "command": shlex.join(["python", "benchmarks/reliability", self.name, *shown]),
            "commit": self._commit,
            "seed": self.options.seed,
            "seconds": round(time.monotonic() - self._began, 1),
            "hardware": f"{platform.machine()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "broken": broken,
            **result,
        }
        self.options.results.mkdir(parents=True, exist_ok=True)
        file = self.options.results / f"reliability_{self.name}.json"
        made = rf"{re.escape(tempfile.gettempdir())}/tmp\w+(/copy)?"  # by `tempfile`
        file.write_text(re.sub(made, "FOLDER", json.dumps(record, indent=1)) + "\n")
        print(f"{broken} broken, {record['seconds']} s, {file}")
        return broken


def print_rows(rows: Sequence[Sequence[object]]) -> None:
    """Print rows of equal length in columns."""
    columns = list(zip(*[[str(cell) for cell in row] for row in rows], strict=True))
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
