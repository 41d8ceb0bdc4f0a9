"""Parts of the runs in worlds of several sizes: a network with dropout, and a callback."""

import hashlib
import os
import signal
from typing import Any

import victim_parts
from torch import nn


class Net(nn.Sequential):
    """A network with dropout."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 2))


class Record(victim_parts.Record):
    """Appends to `RANK.txt` what each episode was and what each batch gave.

    It sends SIGTERM to the first process in the batch of the number STOP_AT.
    """

    def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, index: int) -> None:
        """Ask the run to leave at the end of the batch."""
        done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if done == int(os.environ.get("STOP_AT", -1)) and trainer.is_global_zero:
            os.kill(os.getpid(), signal.SIGTERM)

    def _write(self, trainer: Any, what: str, batch: Any, loss: Any) -> None:
        tensors = [batch.support.x, batch.support.y, batch.query.x, batch.query.y]
        digests = [
            hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:12]
            for parts in zip(*tensors, strict=True)
        ]
        line = f"{what.replace(' ', '-')} {','.join(digests)} {loss.item().hex()}\n"
        with open(f"{trainer.global_rank}.txt", "a") as file:
            file.write(line)
