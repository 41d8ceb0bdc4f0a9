"""Talking to another process without ever waiting for it."""

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .wandb_process import kill_children

MOST_BYTES = 64 * 1024**2  # of messages that wait in memory
STALL = 60.0  # seconds in which a process that lives takes something
REAP = 2.0  # seconds after a SIGKILL


class MessagePipe:
    """Sends messages to a Python process, and reads its answers; both are JSON arrays.

    Sending takes microseconds, whatever the process does: what it does not take yet waits in
    memory. The process has a session of its own, so that signals to the run do not reach it, and
    sees the end of its input when the run is gone, however that went.

    Args:
        script: The program of the process; its argument is a folder for what is temporary.
    """

    def __init__(self, script: Path) -> None:
        self._folder = tempfile.mkdtemp(prefix="metalit-")
        # -P: the modules beside the script would hide others of their names
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), self._folder],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._unsent, self._unread = bytearray(), bytearray()
        self._taken = time.monotonic()  # when the process last took something

    def send(self, *message: Any) -> None:
        """Send a message, or let it wait.

        Raises:
            TimeoutError: If the process has long taken nothing, or too much waits for it.
        """
        if not self._unsent:
            self._taken = time.monotonic()
        self._unsent += json.dumps(message, default=_plain).encode() + b"\n"
        self._push()
        waited = time.monotonic() - self._taken
        if len(self._unsent) > MOST_BYTES or (self._unsent and waited > STALL):
            self._unsent.clear()
            raise TimeoutError(f"its process has taken nothing for {waited:.0f} s")

    def receive(self) -> list[list[Any]]:
        """Return the answers that are there.

        Raises:
            ChildProcessError: If there is none, and there will be none since the process is gone.
        """
        gone = False
        with suppress(BlockingIOError):
            while data := os.read(self._from, 65536):
                self._unread += data
            gone = True
        *lines, rest = bytes(self._unread).split(b"\n")
        self._unread = bytearray(rest)
        if gone and not lines:
            raise ChildProcessError("its process died")
        return [json.loads(line) for line in lines]

    def wait(self, until: float) -> list[list[Any]]:
        """Send what waits and return the next answers.

        Args:
            until: The time, by `time.monotonic`, at which to stop waiting.

        Raises:
            TimeoutError: If the time has come.
            ChildProcessError: If the process is gone.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            while not (answers := self.receive()):
                if self._unsent and self._to not in selector.get_map():
                    selector.register(self._to, selectors.EVENT_WRITE)
                elif not self._unsent and self._to in selector.get_map():
                    selector.unregister(self._to)
                if time.monotonic() >= until:
                    raise TimeoutError("its process did not answer in time")
                selector.select(until - time.monotonic())
                self._push()
        return answers

    def close(self, until: float) -> None:
        """End the process: it may end by itself until a time, by `time.monotonic`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            kill_children(self._process.pid, first=self._process.kill)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(REAP)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _push(self) -> None:
        """Send as much as the process takes; a process that is gone shows in `receive`."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self._to, self._unsent[:65536])]
                self._taken = time.monotonic()
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent.clear()


def _plain(value: Any) -> float | str:
    """Return what JSON can hold of a scalar tensor, a numpy number, a path or anything else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
