"""Loggers that keep a run whole: CSV that goes on after a resume, W&B that never stops a run."""

import csv
import os
from argparse import Namespace
from collections.abc import Callable, Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn


class CSV(CSVLogger):
    """Writes `metrics.csv` into the run folder, and goes on with it when the run is resumed.

    Args:
        save_dir: The run folder; the command line sets it.
    """

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__(save_dir, name="", version="")

    @property
    def experiment(self) -> Any:  # noqa: ANN401 - as in Lightning
        """The writer of the file."""
        if self._experiment is None and not os.path.isdir(self.log_dir):
            os.makedirs(self.log_dir)
        if self._experiment is None:
            self._experiment = _ContinuedWriter(self.log_dir)
        return self._experiment


class _ContinuedWriter(ExperimentWriter):
    """Goes on with an existing file, where Lightning's own writer would delete it."""

    def _check_log_dir_exists(self) -> None:
        if os.path.isfile(self.metrics_file_path):
            with open(self.metrics_file_path, newline="") as file:
                self.metrics_keys = list(csv.DictReader(file).fieldnames or ())


class WandB(Logger):
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
        super().__init__()
        self.project = project
        self.mode = mode
        self._save_dir = save_dir
        self._logger: WandbLogger | None = None
        self._failed = False

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

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics."""
        self._attempt(lambda logger: logger.log_metrics(metrics, step))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log the configuration of the run."""
        self._attempt(lambda logger: logger.log_hyperparams(params))

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """Log images, given as paths."""
        self._attempt(lambda logger: logger.log_image(key, images, step))

    def finalize(self, status: str) -> None:
        """Close the run, so that it can be synced."""
        if self._logger is not None:
            self._attempt(lambda logger: (logger.finalize(status), logger.experiment.finish()))
            self._logger = None

    def _attempt(self, action: Callable[[WandbLogger], object]) -> None:
        if self._failed or rank_zero_only.rank != 0:
            return
        try:
            if self._logger is None:
                self._logger = self._start()
            action(self._logger)
        except Exception as error:  # whatever it is, it must not end the run
            self._failed = True
            rank_zero_warn(f"W&B stopped logging ({_reason(error)}); the run goes on.")

    def _start(self) -> WandbLogger:
        mode = self.mode or os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
        try:
            return self._open(mode)
        except Exception as error:
            if mode != "online":
                raise
            rank_zero_warn(f"W&B cannot be reached ({_reason(error)}): the run is kept offline.")
            return self._open("offline")

    def _open(self, mode: str) -> WandbLogger:
        import wandb

        Path(self._save_dir).mkdir(parents=True, exist_ok=True)
        logger = WandbLogger(
            project=self.project,
            save_dir=self._save_dir,
            id=_last_id(Path(self._save_dir)),
            resume="allow",
            mode=mode,
            settings=wandb.Settings(init_timeout=15, silent=True, console="off"),
        )
        _ = logger.experiment  # starts the run here, where a failure is caught
        return logger


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
