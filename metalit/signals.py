"""SIGTERM, SIGINT and SIGUSR1: what a user, a scheduler or a preempted machine says to a run."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

log = logging.getLogger(__name__)

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 0}
"""The exit code after each signal: 128 and its number, but 0 after a request to save and leave."""


def _nothing() -> None:
    """Do nothing; unlike a lambda, it can be pickled for processes that Lightning spawns."""


class StopSignals:
    """Turns signals into a flag while a loop runs that looks at it, else into an exit at once.

    It stands in the place of Lightning's own connector, which does not save on SIGTERM and, with
    several processes, calls a collective operation inside the handler.

    Args:
        begin: Called when a loop is about to begin.
        abandon: Called before a second SIGINT ends the process at once.
        more: Exit codes of further signals.
        leave: Ends the process with an exit code where no loop looks at the flag.

    Attributes:
        received: The first signal, None before it.
        held: Whether a loop runs that looks at it.
        received_sigterm: False, so that Lightning's loops do not act beside us.
    """

    received_sigterm = False

    def __init__(
        self,
        begin: Callable[[], None] = _nothing,
        abandon: Callable[[], None] = _nothing,
        more: Mapping[signal.Signals, int] = MappingProxyType({}),
        leave: Callable[[int], object] = sys.exit,
    ) -> None:
        self.received: signal.Signals | None = None
        self._begin = begin
        self._abandon = abandon
        self._codes = {**CODES, **more}
        self._leave = leave
        self._interrupted = False
        self.held = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Set the handlers; without effect outside the main thread, which alone may set them."""
        if threading.current_thread() is threading.main_thread():
            self._before |= {
                number: signal.signal(number, self._handle)
                for number in self._codes
                if signal.getsignal(number) != self._handle
            }

    def ignore(self) -> None:
        """Put back the handlers of before."""
        self.held = False
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def register_signal_handlers(self) -> None:
        """Set the handlers, and leave it to the loop that begins now to look at the flag."""
        self.received, self._interrupted = None, False
        self.listen()
        self.held = True
        self._begin()

    def teardown(self) -> None:
        """Put back the handlers of before, at the end of the loop."""
        self.ignore()

    def _handle(self, number: int, frame: Any) -> None:
        again = number == signal.SIGINT and self._interrupted
        self._interrupted |= number == signal.SIGINT
        self.received = self.received or signal.Signals(number)
        if again:
            self._abandon()
            os._exit(CODES[signal.SIGINT])
        if not self.held:
            self._leave(self._codes[self.received])
        what = "once more to leave at once" if number == signal.SIGINT else "please wait"
        # not through a logger or sys.stderr, which may be in the middle of writing
        text = f"\n{self.received.name}: leaving at the end of this step ({what})\n"
        os.write(2, text.encode())


def ignore_in_worker(worker: int) -> None:
    """Let a worker process of a loader go on when a signal is sent to all processes of a run.

    The main process alone decides when to leave, and ends its workers then. One that is lost goes
    by itself, a while after a SIGTERM, and at once at a SIGALRM.

    Args:
        worker: Number of the worker, as a `worker_init_fn` gets it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_PATIENCE))
    signal.signal(
        signal.SIGALRM, lambda *_: os._exit(0)
    )  # an exit of 0 is no error of the loader's


_PATIENCE = 20  # seconds; longer than a step, and less than a scheduler waits before it kills


def requeue() -> None:
    """Queue this SLURM job again, which `--ckpt_path auto` lets go on from its last checkpoint."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=10, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("SLURM job %s cannot be queued again (%s): queue it by hand.", job, error)
    else:
        log.info("SLURM job %s is queued again.", job)
