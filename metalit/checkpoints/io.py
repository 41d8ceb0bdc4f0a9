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
    `NAME.previous.ckpt`. The SHA-256 of its bytes is kept in the file itself. Training waits for
    the writing alone; the rest is done beside it, and `wait` waits for that.

    A disk that is full or broken does not end a run: the failure is logged in one line, the
    checkpoint of before stays, and the next one may succeed. `failure` says whether the last one
    did.

    Paths with a scheme, such as `s3://`, are Lightning's business, but for `weights_only`.

    Attributes:
        failure: Why the last checkpoint could not be saved, None if it was.

    Example:
        >>> from lightning import Trainer
        >>> trainer = Trainer(accelerator="cpu", plugins=[SafeCheckpointIO()], logger=False)
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        self._remote = TorchCheckpointIO()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[Path, Future[None]] | None = None
        self._saved_once = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            TypeError: If `storage_options` are given.
            ValueError: If the checkpoint of before, or the first one, holds what cannot be read
                without running code.
        """
        if storage_options is not None:
            raise TypeError("storage_options are not taken: leave them out.")
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
        self._pending = file, self._thread.submit(publish, beside, file)
        if not self._saved_once:  # what can never be read is to be known at once
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
            self.failure = None

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
        """Remove a checkpoint file."""
        self.wait()
        self._remote.remove_checkpoint(path)

    def teardown(self) -> None:
        """Wait for the last checkpoint."""
        self.wait()

    def _fail(self, file: Path, error: OSError) -> None:
        # not the error itself, whose traceback would keep the file open, and its space taken
        self.failure = error.strerror or str(error)
        stays = "the one before it stays" if file.exists() else "there is none yet"
        log.warning(
            "The checkpoint %s cannot be saved (%s); %s and the run goes on: make room.",
            file,
            self.failure,
            stays,
        )


def _is_remote(path: _PATH) -> bool:
    return "://" in str(path)
