"""Lightning's interface to checkpoint files."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins import CheckpointIO

from .files import load_checkpoint, publish, write_temporary
from .trust import refuse_forced_unpickling

log = logging.getLogger(__name__)


class SafeCheckpointIO(CheckpointIO):
    """Writes checkpoints that are whole or absent, and reads none that is damaged or runs code.

    A checkpoint is written beside its target, in the same folder; on the disk, read again and
    found whole, it takes the target's name, and the target of before is kept as
    `NAME.previous.ckpt`. The SHA-256 of its bytes is kept in the file itself.

    A disk that is full or broken does not end a run: the failure is logged in one line, the
    checkpoint of before stays, and the next one may succeed. `failures` says which have not.

    Paths with a scheme, such as `s3://`, are Lightning's business, but for `weights_only`.

    Attributes:
        failures: Files that could not be saved, and have not been since, with the reason.

    Example:
        >>> from lightning import Trainer
        >>> trainer = Trainer(accelerator="cpu", plugins=[SafeCheckpointIO()], logger=False)
    """

    def __init__(self) -> None:
        self.failures: dict[Path, str] = {}
        self._remote = TorchCheckpointIO()
        self._thread: ThreadPoolExecutor | None = None  # not before it is used, to be pickled
        self._pending: tuple[Path, Future[None]] | None = None
        self._saved_once = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Tensors, numbers and text, in nested containers.
            path: The file.
            storage_options: `{"wait": False}` to return when all is written, and let it be checked
                and put on the disk beside what comes next; `wait` waits for that.

        Raises:
            TypeError: If there are other `storage_options`.
            ValueError: If the checkpoint, or one that was not waited for, holds what cannot be read
                without running code.
        """
        if storage_options not in (None, {"wait": False}, {"wait": True}):
            raise TypeError(f"storage_options={storage_options} but only wait can be given.")
        if _is_remote(path):
            self._remote.save_checkpoint(checkpoint, path)
            return
        self.wait()
        file = Path(path)
        try:
            beside = write_temporary(checkpoint, file)
        except OSError as error:
            self._fail(file, error)
            return
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._pending = file, self._thread.submit(publish, beside, file)
        # what can never be read is to be known at once, and without a first file all would be lost
        if storage_options != {"wait": False} or not (self._saved_once and file.exists()):
            self.wait()
            self._saved_once = True

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        if self._pending is None:
            return
        (file, future), self._pending = self._pending, None
        try:
            future.result()
        except OSError as error:
            self._fail(file, error)
        else:
            self.failures.pop(file, None)

    def load_checkpoint(
        self,
        path: _PATH,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint, always with `weights_only=True`; see `checkpoints.load_checkpoint`."""
        self.wait()
        if _is_remote(path):
            refuse_forced_unpickling()
            return self._remote.load_checkpoint(path, map_location, weights_only=True)
        return load_checkpoint(path, map_location)

    def remove_checkpoint(self, path: _PATH) -> None:
        """Remove a checkpoint file, and nothing but a file.

        Which one comes from a callback's state in a checkpoint, which may be anybody's.
        """
        self.wait()
        if not _is_remote(path) and Path(path).suffix == ".ckpt":
            Path(path).unlink(missing_ok=True)

    def teardown(self) -> None:
        """Wait for the last checkpoint."""
        self.wait()

    def _fail(self, file: Path, error: OSError) -> None:
        # not the error itself, whose traceback would keep the file open, and its space taken
        self.failures[file] = error.strerror or str(error)
        stays = "the one before it stays" if file.exists() else "there is none yet"
        log.warning(
            "The checkpoint %s cannot be saved (%s); %s and the run goes on: make room.",
            *(file, self.failures[file], stays),
        )


def _is_remote(path: _PATH) -> bool:
    return "://" in str(path)
