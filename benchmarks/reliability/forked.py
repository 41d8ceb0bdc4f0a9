"""Runs a function in a forked child, with a limit on its time and memory."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

GIGABYTES = 12  # of address space that a child may take beyond what its parent has


class Outcome(NamedTuple):
    """How a child ended.

    Attributes:
        code: Exit code; minus the number of the signal that ended it; None after the time limit.
        said: What it wrote to stdout.
        complained: What it wrote to stderr.
        seconds: How long it took.
    """

    code: int | None
    said: str
    complained: str
    seconds: float


def run_forked(function: Callable[[], object], folder: Path, limit: float) -> Outcome:
    """Run a function in a child whose working directory is a folder.

    Args:
        function: What to run; an exception makes the exit code 1 and a traceback on stderr.
        folder: Working directory; what the child writes goes to files beside it.
        limit: Seconds after which the child and all its children are killed.
    """
    files = [folder.with_suffix(suffix) for suffix in (".out", ".err")]
    for file in files:
        file.write_text("")  # the child may be killed before it opens them
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become(function, folder, files)
    code = _wait(child, began + limit)
    texts = [file.read_text(errors="replace") for file in files]
    return Outcome(code, *texts, time.monotonic() - began)


def _become(function: Callable[[], object], folder: Path, files: list[Path]) -> None:
    """Be the child; never returns."""
    code = 1
    try:
        os.setsid()  # workers of the child die with it
        os.chdir(folder)
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        # a parent such as pytest may have put others in their place
        sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
        _limit_memory()
        function()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + GIGABYTES * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _wait(child: int, deadline: float) -> int | None:
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            _kill(child)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            _kill(child)
            os.waitpid(child, 0)
            return None
        time.sleep(0.01)


def _kill(child: int) -> None:
    for kill in (os.killpg, os.kill):  # it may not have a group of its own yet
        with suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
