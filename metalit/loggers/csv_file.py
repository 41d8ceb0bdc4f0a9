"""The logger that writes a run's metrics into its folder."""

import csv
import io
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from ..runs import METRICS, read_rows, write_rows
from .base import RunLogger

RETRY = 1.0  # seconds between attempts while the disk is full
PATIENCE = 20  # attempts that take long are made rarely: this many times their duration apart


class CSV(RunLogger):
    """Writes `metrics.csv` into the run folder, and goes on with it when the run is resumed.

    Every row is in the file at once, so that a killed run loses none. While the disk is full, rows
    wait in memory and training goes on; they are written, in order, as soon as there is space.
    `test` and `validate` leave `metrics.csv` alone and write `test.csv` and `validate.csv`.

    Args:
        save_dir: The run folder; the command line sets it.
    """

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__(save_dir)
        self._names: list[str] = []  # of the columns, once they are in the file
        self._waiting: list[dict[str, Any]] = []  # rows that are not in the file yet
        self._count: int | None = None  # of all rows, once it is known
        self._whole: int | None = None  # bytes to keep of a file whose last write failed
        self._retry_at = 0.0
        self._warned = False

    @property
    def file(self) -> Path:
        """The file of the command that runs."""
        name = METRICS if self._command == "fit" else f"{self._command}.csv"
        return Path(self.save_dir) / name

    @property
    def rows(self) -> int:
        """Rows of the file, which are on the disk from now on, with those that wait for space."""
        with suppress(OSError):  # a row that is lost for that is warned of when the run goes on
            descriptor = os.open(self.file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return self._count_rows()

    def _count_rows(self) -> int:
        if self._count is None:
            self._count = len(read_rows(self.file)[1]) if self.file.is_file() else 0
        return self._count

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row."""
        row: dict[str, Any] = {**metrics, "step": step}
        if self._command != "fit":  # Lightning would say step 0 and epoch 0
            row = {name: value for name, value in metrics.items() if name != "epoch"}
        self._count = self._count_rows() + 1
        self._waiting.append(row)
        if time.monotonic() >= self._retry_at:
            self._write()

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: `config.yaml` has them already."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rows that still wait for space."""
        if not self._waiting:
            return
        try:
            self._append()
        except OSError as error:
            rank_zero_warn(
                f"{self.file} lacks its last {len(self._waiting)} rows, which could not be written "
                f"({error.strerror}): make space before the next run."
            )

    def _write(self) -> None:
        """Write the rows that wait, or warn once and let them wait on."""
        began = time.monotonic()
        try:
            self._append()
        except OSError as error:
            now = time.monotonic()
            self._retry_at = now + max(RETRY, PATIENCE * (now - began))
            if not self._warned:
                self._warned = True
                rank_zero_warn(
                    f"{self.file} cannot be written ({error.strerror}): the run goes on, and its "
                    "rows wait in memory until there is space."
                )

    def _append(self) -> None:
        if self._whole is not None:  # a failed write may have left a part of its rows
            os.truncate(self.file, self._whole)
            self._whole = None
        names = set().union(*self._waiting)
        if not self._names or not names <= set(self._names):
            known, rows = read_rows(self.file) if self.file.is_file() else ([], [])
            columns = sorted({*known, *names})
            write_rows(self.file, columns, rows)
            self._names = columns
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._names).writerows(self._waiting)
        data = text.getvalue().encode()
        with self.file.open("ab", buffering=0) as stream:
            self._whole = stream.tell()
            while data:  # a disk that fills up takes a part, and refuses the rest
                data = data[stream.write(data) :]
        self._whole = None
        self._waiting = []
