"""Loggers that keep a run whole: CSV that goes on after a resume, W&B that never stops a run."""

import csv
import os
from abc import ABC
from argparse import Namespace
from collections.abc import Callable, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from .runs import METRICS, read_rows, write_rows


class RunLogger(Logger, ABC):
    """Writes into the folder of a run.

    Args:
        save_dir: The run folder; the command line sets it.
    """

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__()
        self._save_dir = save_dir
        self._command = "fit"

    @property
    def name(self) -> str:
        """Empty: the run folder is not divided further."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the run folder is not divided further."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return self._save_dir

    def write_to(self, run: Path, command: str) -> None:
        """Set the run folder and the command, such as "fit", whose values are logged."""
        self._save_dir = str(run)
        self._command = command


class CSV(RunLogger):
    """Writes `metrics.csv` into the run folder, and goes on with it when the run is resumed.

    Every row is on the disk at once, so that a killed run loses none. `test` and `validate` leave
    `metrics.csv` alone and write `test.csv` and `validate.csv`.

    Args:
        save_dir: The run folder; the command line sets it.
    """

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__(save_dir)
        self._names: list[str] = []  # of the columns, once they are known

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row."""
        file = Path(self.save_dir) / METRICS
        row: dict[str, Any] = {**metrics, "step": step}
        if self._command != "fit":  # Lightning would say step 0 and epoch 0
            file = file.with_name(f"{self._command}.csv")
            row = {name: value for name, value in metrics.items() if name != "epoch"}
        if not self._names or not set(row) <= set(self._names):
            names, rows = read_rows(file) if file.is_file() else ([], [])
            self._names = sorted({*names, *row})
            write_rows(file, self._names, rows)
        with file.open("a", newline="") as stream:
            csv.DictWriter(stream, self._names).writerow(row)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: `config.yaml` has them already."""


class WandB(RunLogger):
    """Logs to Weights & Biases, and lets training go on whatever happens to it.

    Without a login the run is kept offline in the run folder, to be sent later by `wandb sync`.
    A resumed run goes on under its id. The first failure is warned about once, and ends this
    logger, not the run.

    Args:
        project: W&B project.
        mode: "online", "offline" or "disabled"; None means what WANDB_MODE says, else online for a
            user who is logged in and offline for everybody else.
        save_dir: The run folder; the command line sets it.
    """

    def __init__(
        self,
        project: str = "metalit",
        mode: Literal["online", "offline", "disabled"] | None = None,
        save_dir: str = ".",
    ) -> None:
        super().__init__(save_dir)
        self.project = project
        self.mode = mode
        self._run: Any = None  # wandb is imported late, since it takes a second
        self._failed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics."""
        self._attempt(lambda run: run.log({**metrics, "trainer/global_step": step}))

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Log the configuration of the run."""
        values = vars(params) if isinstance(params, Namespace) else params
        self._attempt(lambda run: run.config.update(values, allow_val_change=True))

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """Log images, given as paths."""

        def log(run: Any) -> None:
            import wandb

            run.log({key: [wandb.Image(image) for image in images], "trainer/global_step": step})

        self._attempt(log)

    def finalize(self, status: str) -> None:
        """Close the run, so that it can be synced."""
        if self._run is not None:
            self._attempt(lambda run: run.finish(exit_code=int(status != "success")))
            self._run = None

    def _attempt(self, action: Callable[[Any], object]) -> None:
        mode = self.mode or os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
        # an attribute of a function, which Lightning sets
        rank = rank_zero_only.rank  # type: ignore[attr-defined]
        if self._failed or rank != 0 or mode == "disabled":
            return
        try:
            if self._run is None:
                self._run = self._start(mode)
            action(self._run)
        except Exception as error:  # whatever it is, it must not end the run
            self._failed = True
            rank_zero_warn(f"W&B stopped logging ({_reason(error)}); the run goes on.")

    def _start(self, mode: str) -> Any:
        try:
            return self._open(mode)
        except Exception as error:
            if mode != "online":
                raise
            rank_zero_warn(f"W&B cannot be reached ({_reason(error)}): the run is kept offline.")
            return self._open("offline")

    def _open(self, mode: Any) -> Any:
        import wandb

        Path(self.save_dir).mkdir(parents=True, exist_ok=True)
        run: Any = wandb.init(
            project=self.project,
            dir=self.save_dir,
            id=_last_id(Path(self.save_dir)),
            resume="allow",
            mode=mode,
            settings=wandb.Settings(init_timeout=15, silent=True, console="off"),
        )
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return run


def logged_in() -> bool:
    """Return whether W&B finds a key, without asking its server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
        return netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, NetrcParseError):
        return False


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _last_id(folder: Path) -> str | None:
    """Return the id of the W&B run that this folder already holds."""
    runs = sorted(folder.glob("wandb/*run-*-*"), key=lambda run: run.stat().st_mtime)
    return runs[-1].name.rpartition("-")[2] if runs else None
