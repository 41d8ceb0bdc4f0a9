"""Parts of the runs that are killed: a network with dropout, and a callback that keeps a record."""

import hashlib
import os
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch import nn


class Net(nn.Sequential):
    """A network with dropout."""

    def __init__(self, out_features: int = 3) -> None:
        first, last = nn.Linear(64, 16), nn.Linear(16, out_features)
        super().__init__(nn.Flatten(), first, nn.Tanh(), nn.Dropout(0.3), last)
        self.out_features = out_features


class Record(Callback):
    """Appends what each batch was and gave to `record.txt`, and waits for VICTIM_SECONDS then."""

    def on_train_batch_end(
        self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Write down a step."""
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        self._write(trainer, f"train {done}", batch, outputs["loss"])

    def on_validation_batch_end(
        self, trainer: Any, model: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        """Write down a batch of validation."""
        self._write(trainer, f"val {trainer.global_step} {index}", batch, outputs)

    def _write(self, trainer: Any, what: str, batch: Any, loss: Any) -> None:
        digest = hashlib.sha256()
        for tensor in (batch.support.x, batch.support.y, batch.query.x, batch.query.y):
            digest.update(tensor.numpy().tobytes())
        line = f"rank {trainer.global_rank} {what} = {digest.hexdigest()[:16]} {loss.item().hex()}"
        with open("record.txt", "a") as file:
            file.write(line + "\n")
        time.sleep(float(os.environ.get("VICTIM_SECONDS", 0)))


def die(*_: Any) -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), 9)


def let_die(owner: Any, name: str, deadly: Callable[..., Callable[..., Any]], call: int) -> None:
    """Let this process die at some call of a function.

    Args:
        owner: Module or class that has the function.
        name: Its name there.
        deadly: Makes what is called instead of it.
        call: Calls before that one.
    """
    original, left = getattr(owner, name), [call]

    def watched(*given: Any, **named: Any) -> Any:
        left[0] -= 1
        return (original if left[0] >= 0 else deadly(original))(*given, **named)

    setattr(owner, name, watched)
