"""The logger for Weights & Biases, which cannot hold up a run."""

import os
import secrets
import string
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from functools import cached_property
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from ..runs import short
from . import wandb_process
from .base import RunLogger
from .message_pipe import MessagePipe

ONLINE_SECONDS = 6.0  # for the server to accept the run, which is kept offline else
FINISH_SECONDS = 9.0  # for what is left to send when the run ends
OPEN_AND_FINISH_SECONDS = 12.0  # where it is not open yet; to do so offline after all takes 8
HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # of W&B's own service, then and now
ID_LETTERS = string.ascii_lowercase + string.digits


class WandB(RunLogger):
    """Logs to Weights & Biases, and lets training go on whatever happens to it.

    W&B runs in a process of its own, to which values are sent without waiting: neither its server
    nor its death, nor its exit hooks, can hold up the run, which waits for it only at the end, 12 s
    at most. In exchange, `wandb.run` is None in the process that trains.

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
        self._id: str | None = None
        self._pipe: MessagePipe | None = None
        self._folder: str | None = None  # of the run, once it is open
        self._failed = False
        self._finished = False
        self._warned = False

    @property
    def run_id(self) -> str | None:
        """The id of the W&B run, known before it is opened; None where nothing is logged.

        It is the one given to `resume`, else that of the last run in the run folder, else
        WANDB_RUN_ID, else a new one.
        """
        if self._mode == "disabled":
            return None
        if self._id is None:
            new = "".join(secrets.choice(ID_LETTERS) for _ in range(8))
            self._id = _last_id(Path(self.save_dir)) or os.environ.get("WANDB_RUN_ID") or new
        return self._id

    def resume(self, run_id: str | None) -> None:
        """Go on with the W&B run of this id, as a checkpoint holds it; None changes nothing."""
        if run_id is None:
            return
        if self._pipe is not None:
            raise RuntimeError(
                f"W&B run {self._id} is open and cannot become {run_id}: call resume before "
                "anything is logged."
            )
        self._id = run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics."""
        self._send("log", {**metrics, "trainer/global_step": step})

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Log the configuration of the run."""
        self._send("config", vars(params) if isinstance(params, Namespace) else params)

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """Log images, given as paths."""
        self._send("images", key, [str(Path(image).absolute()) for image in images], step)

    def finalize(self, status: str) -> None:
        """Close the run, so that it can be synced; wait for that, but not for long."""
        if self._pipe is None:
            return
        seconds = FINISH_SECONDS if self._folder else OPEN_AND_FINISH_SECONDS
        until = time.monotonic() + seconds
        self._send("finish", int(status != "success"))
        try:
            while not self._failed and not self._finished:  # it may have answered already
                self._heed(self._pipe.wait(until))
        except Exception as error:  # whatever it is, it must not end the run
            self._give_up(error)
        self._pipe.close(until)
        self._pipe = self._folder = None
        self._finished = False

    @cached_property
    def _mode(self) -> str:
        given = self.mode or os.environ.get("WANDB_MODE")
        return given or ("online" if logged_in() else "offline")

    def _send(self, *message: Any) -> None:
        # an attribute of a function, which Lightning sets
        rank = rank_zero_only.rank  # type: ignore[attr-defined]
        if self._failed or rank != 0 or self._mode == "disabled":
            return
        try:
            if self._pipe is None:
                self._pipe = self._open()
            self._pipe.send(*message)
            self._heed(self._pipe.receive())
        except Exception as error:  # whatever it is, it must not end the run
            self._give_up(error)

    def _open(self) -> MessagePipe:
        pipe = MessagePipe(Path(wandb_process.__file__))
        folder = str(Path(self.save_dir).absolute())
        options = {"project": self.project, "id": self.run_id}
        pipe.send("start", self._mode, folder, ONLINE_SECONDS, sys.argv, options)
        return pipe

    def _heed(self, answers: list[list[Any]]) -> None:
        """Do what the answers of the process ask for."""
        for kind, *values in answers:
            if kind == "started":
                self._folder = short(Path(values[0]))
            elif kind == "offline":
                self._warn(
                    f"W&B cannot be reached ({values[0]}): the run is kept offline, and "
                    f"`wandb sync {self._folder}` sends it later."
                )
            elif kind == "failed":
                raise RuntimeError(values[0])
            elif kind == "finished":
                self._finished = True

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        text = f"W&B stopped logging ({wandb_process.reason(error)}): the run goes on"
        if self._folder is not None:
            text += f"; `wandb sync --include-online {self._folder}` sends what it has"
        self._warn(f"{text}.")

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            rank_zero_warn(text)


def logged_in() -> bool:
    """Return whether W&B finds a key, without asking its server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    given = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname
    hosts = HOSTS if given is None or given in HOSTS else (given,)
    try:
        known = netrc(os.environ.get("NETRC"))
    except (OSError, NetrcParseError):
        return False
    return any(known.authenticators(host) is not None for host in hosts)


def _last_id(folder: Path) -> str | None:
    """Return the id of the W&B run that this folder already holds."""
    runs = sorted(folder.glob("wandb/*run-*-*"), key=lambda run: run.stat().st_mtime)
    return runs[-1].name.rpartition("-")[2] if runs else None
