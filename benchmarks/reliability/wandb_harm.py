"""A callback that looks after the clock of a run, and harms its wandb-core in the middle."""

import os
import signal
import time
from pathlib import Path

from lightning import Callback


class Harm(Callback):
    """Sends a signal to the wandb-core of its run, from some step on, as soon as there is one.

    Args:
        number: Name of the signal, or "" for none.
        step: First step at which to send it.
        pause: Seconds that every step takes longer, so that there is a middle of the run.
        folder: Gets a file `harmed` when the signal was sent, and `trained` with the time at which
            the training ended.
    """

    def __init__(self, number: str, step: int, pause: float, folder: str) -> None:
        self.number, self.step, self.pause = number, step, pause
        self.harmed, self.trained = Path(folder) / "harmed", Path(folder) / "trained"

    def on_train_batch_end(self, trainer, *_) -> None:
        time.sleep(self.pause)
        if not self.number or self.harmed.exists() or trainer.global_step < self.step:
            return
        for core in cores(os.getpid()):
            os.kill(core, signal.Signals[self.number])
            self.harmed.write_text(f"{self.number} at step {trainer.global_step}\n")

    def on_train_end(self, *_) -> None:
        self.trained.write_text(f"{time.monotonic()}")


def cores(pid: int) -> list[int]:
    """Return the wandb-core processes below a process."""
    found = []
    for file in Path("/proc").glob(f"{pid}/task/*/children"):
        for child in map(int, file.read_text().split()):
            name = Path(f"/proc/{child}/comm").read_text().strip()
            found += [child] if name == "wandb-core" else cores(child)
    return found
