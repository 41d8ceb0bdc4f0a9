"""One process alone trains in a run folder."""

import errno
import fcntl
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TextIO

LOCK = ".lock"


class RunLock:
    """Keeps other processes from training in a run folder.

    It ends with the process, however that ends, and is not inherited by workers. There is none
    where the folder cannot be written, or its file system has no locks.

    Args:
        run: The folder.

    Raises:
        ValueError: If another process trains there.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / LOCK
        try:
            self._file = self._open()
        except BlockingIOError:
            raise ValueError(
                f"the run {str(run)!r} is being trained by {self._owner()}: wait until it has "
                "ended, or begin another one without --ckpt_path."
            ) from None
        except OSError:
            self._file = None
        if self._file is not None:
            with suppress(OSError):  # on a full disk: it is for others to read, and no more
                self._file.truncate(0)
                name = f"process {os.getpid()} on {platform.node()}"
                os.write(self._file.fileno(), name.encode())

    def release(self) -> None:
        """Let others train there."""
        if self._file is not None:
            with suppress(OSError):
                self._path.unlink()  # before it is free, so that it is nobody else's
            self._file.close()

    def _open(self) -> TextIO | None:
        while True:
            file = self._path.open("a+")
            try:
                # not flock, which workers that are forked would go on holding
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                    return file
            except FileNotFoundError:
                pass  # released and removed between the two lines
            except OSError as error:
                file.close()
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise BlockingIOError from error
                raise
            file.close()

    def _owner(self) -> str:
        try:
            return self._path.read_text() or "another process"
        except OSError:
            return "another process"
