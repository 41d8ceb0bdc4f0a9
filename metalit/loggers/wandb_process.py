"""The process that holds a W&B run, of which it is told through its standard input.

It runs by itself, without metalit, whose import would take seconds. Messages and answers are JSON
arrays, one a line. When its input ends, so has the training, in whatever way, and it closes the
run as one that failed.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 1.0  # what is lost of the run's file where wandb-core is killed
CLOSE_SECONDS = 30  # for the run to be closed where nobody waits for it any more

temporary: list[str] = []
"""The folder of this process, which wandb's exit hooks alone would empty."""


class Session:
    """A W&B run and what can be told to it.

    Args:
        answer: Is called with what to tell the training process.
    """

    def __init__(self, answer: Callable[..., None]) -> None:
        self._answer = answer
        self._run: Any = None

    def start(
        self, mode: str, folder: str, seconds: float, program: list[str], options: dict[str, Any]
    ) -> None:
        """Open the run, offline where the server does not accept it within some seconds."""
        sys.argv = program
        os.environ.setdefault("WANDB_PROGRAM", program[0])
        Path(folder).mkdir(parents=True, exist_ok=True)
        before = set(Path(folder).glob("wandb/run-*"))
        unreached = None
        try:
            self._open(mode, folder, seconds, options)
        except Exception as error:
            if mode != "online":
                raise
            import wandb

            kill_children(os.getpid())  # its wandb-core may hang, and would call the id taken
            with suppress(Exception, SystemExit):
                wandb.teardown()
            for attempt in set(Path(folder).glob("wandb/run-*")) - before:
                shutil.rmtree(attempt, ignore_errors=True)  # holds nothing, and would be synced
            self._open("offline", folder, seconds, options)
            unreached = reason(error)
        self._answer("started", self._run.settings.sync_dir)
        if unreached is not None:
            self._answer("offline", unreached)

    def _open(self, mode: Any, folder: str, seconds: float, options: dict[str, Any]) -> None:
        import wandb

        settings = {
            "init_timeout": seconds,
            "silent": True,
            "console": "off",
            "x_stats_pid": os.getppid(),  # the training, not this process
            "x_transaction_log_flush_interval": FLUSH_SECONDS,
        }
        known = {name: v for name, v in settings.items() if name in wandb.Settings.__annotations__}
        self._run = wandb.init(dir=folder, mode=mode, resume="allow", settings=known, **options)
        self._run.define_metric("*", step_metric="trainer/global_step", step_sync=True)

    def config(self, values: dict[str, Any]) -> None:
        """Add to the configuration of the run."""
        self._run.config.update(values, allow_val_change=True)

    def log(self, row: dict[str, float]) -> None:
        """Log metrics."""
        self._run.log(row)

    def images(self, key: str, paths: list[str], step: int | None) -> None:
        """Log images, given as paths."""
        import wandb

        self._run.log({key: [wandb.Image(path) for path in paths], "trainer/global_step": step})

    def finish(self, exit_code: int) -> None:
        """Close the run, so that all of it is in its file."""
        if self._run is None:
            return
        import wandb

        self._run.finish(exit_code=exit_code)
        wandb.teardown()
        self._run = None


def kill_children(pid: int, first: Callable[[], None] | None = None) -> None:
    """Kill the children of a process, which are wandb-core; a stopped one ends in no other way.

    Args:
        pid: The process.
        first: Is called when the children are known, to end the process before them.
    """
    children: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread may have ended by now
            children += map(int, file.read_text().split())
    if first is not None:
        first()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def reason(error: BaseException) -> str:
    """Return the first line of an error."""
    if isinstance(error, ConnectionError):
        return "the connection to wandb-core was lost"
    return (str(error).splitlines() or [type(error).__name__])[0]


def main() -> None:
    """Do what the messages say, until one says to finish or there are no more."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the training ends this process, nobody else
    messages, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # what wandb prints is no answer

    def answer(*message: Any) -> None:
        with suppress(OSError):  # nobody reads it any more
            answers.write(json.dumps(message) + "\n")

    temporary.append(sys.argv[1])
    os.environ["TMPDIR"] = tempfile.tempdir = sys.argv[1]
    session = Session(answer)
    known = {
        action.__name__: action
        for action in (session.start, session.config, session.log, session.images, session.finish)
    }
    try:
        for line in messages:
            name, *values = json.loads(line)
            known[name](*values)
            if name == "finish":
                answer("finished")
                break
        else:
            limit(CLOSE_SECONDS)
            session.finish(1)
    except (Exception, SystemExit) as error:
        answer("failed", reason(error))
        limit(CLOSE_SECONDS)
        with suppress(Exception, SystemExit):
            session.finish(1)
    end()


def limit(seconds: float) -> None:
    """End this process after some time, whatever wandb is waiting for then."""
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def end() -> None:
    """End this process and its wandb-core, without the exit hooks of wandb, which may wait."""
    kill_children(os.getpid())
    for folder in temporary:  # where the training was killed, which else removes it
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
