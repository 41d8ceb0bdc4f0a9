"""The checkpoint that a run goes on from, whatever ended it."""

import inspect
import logging
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor, distributed

from ..checkpoints import GivenSettings, SafeCheckpointIO, sweep
from ..checkpoints.progress import (
    PROGRESS,
    STOPPED,
    count_validation,
    finish_epoch,
    progress_of,
    repeat_validation,
    restore_progress,
    validation_follows,
)
from ..runs import short
from ..signals import CODES, StopSignals, requeue

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`: at the end of every epoch, every few minutes, and when told to leave.

    After SIGTERM, SIGINT or SIGUSR1 the run saves at the end of the step, or of the batch of
    validation, that it is in, and leaves with exit code 143, 130 or 0. With several processes it
    is enough that one of them gets the signal. Under SLURM the job is queued again after its
    requeue signal. A second SIGINT leaves at once.

    From every checkpoint that is saved while this callback is there, a run goes on exactly: a
    validation that was about to begin is done, and gradients that wait for the optimizer are kept.

    Args:
        dirpath: Folder of the checkpoint; `checkpoints` in that of the trainer if None.
        filename: Name of the checkpoint, without its suffix.
        every_n_train_steps: Outer steps after which it is saved, too; None for none.
        every_minutes: Minutes after which it is saved, too; None for none.

    Raises:
        ValueError: If an interval is not positive.

    Example:
        >>> from lightning import Trainer
        >>> keep = LastCheckpoint("checkpoints", every_minutes=5)
        >>> parts = {"callbacks": [keep], "plugins": [SafeCheckpointIO()]}
        >>> trainer = Trainer(accelerator="cpu", logger=False, **parts)
    """

    def __init__(
        self,
        dirpath: str | None = None,
        filename: str = "last",
        every_n_train_steps: int | None = None,
        every_minutes: float | None = 5.0,
    ) -> None:
        super().__init__()
        intervals = {"every_n_train_steps": every_n_train_steps, "every_minutes": every_minutes}
        for name, value in intervals.items():
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} should be positive, or null for none.")
        self.dirpath = dirpath
        self.filename = filename
        self.every_n_train_steps = every_n_train_steps
        self.every_minutes = every_minutes
        self._signals = StopSignals()
        self._progress: dict[str, dict[str, Tensor]] | None = None
        self._stopped: list[Any] | None = None
        self._arguments: list[Any] = []
        self._saved_at = time.monotonic()
        self._saved_step = 0

    @property
    def file(self) -> Path:
        """The checkpoint file."""
        return Path(self.dirpath or ".") / f"{self.filename}.ckpt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to signals."""
        # last of all, so that what it saves holds what the others did at the end of an epoch
        callbacks = trainer.callbacks  # type: ignore[attr-defined] # set where mypy is blind
        trainer.callbacks = [*(c for c in callbacks if c is not self), self]  # type: ignore[attr-defined] # as above
        folder = trainer.strategy.broadcast(str(Path(trainer.default_root_dir) / "checkpoints"))
        self.dirpath = self.dirpath or folder
        self._arguments = _arguments(trainer)  # now: training may change what was an argument
        slurm = _slurm(trainer)
        requeue_signal = slurm.requeue_signal if slurm is not None else None
        self._signals = StopSignals(
            partial(self._begin, trainer),
            partial(_signal_children, trainer, signal.SIGKILL),
            {requeue_signal: 0} if requeue_signal is not None else {},
        )
        trainer._signal_connector = self._signals  # type: ignore[assignment] # has the same methods

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a killed process left unfinished, wherever this run saves."""
        keepers = (c for c in trainer.checkpoint_callbacks if isinstance(c, _WITH_FOLDER))
        if trainer.is_global_zero:
            for folder in {Path(keeper.dirpath) for keeper in keepers if keeper.dirpath}:
                sweep(folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore what a checkpoint kept beside Lightning's own state."""
        if self._progress is not None:
            restore_progress(trainer, pl_module, self._progress)
            self._progress = None
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save if it is time, and leave if it was asked for."""
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        ends = _ends_within_epoch(trainer)
        if (last or ends) and not validation_follows(trainer):
            if ends:
                self._save(trainer)
            return  # `on_train_epoch_end` follows, which Lightning would leave out of a resumed run
        if self._leave_if_asked(trainer, self._is_due(trainer)) or ends:
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count batches of validation from here."""
        count_validation(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Leave if it was asked for; the validation is repeated later."""
        self._leave_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save where the run ends after a validation within an epoch."""
        fits = trainer.state.fn == "fit" and trainer.validating  # not before the training
        if fits and _ends_within_epoch(trainer):
            self._save(trainer)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Leave if it was asked for."""
        self._leave_if_asked(trainer)

    def on_predict_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Leave if it was asked for, without a vote: processes need not have as many batches."""
        if self._signals.received:
            self._leave(trainer, self._signals.received, save=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of an epoch; leave if it was asked for."""
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._save(trainer)
        self._leave_if_asked(trainer, save=False)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complain if what was learned last is not on the disk."""
        self._complain(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let the other processes leave, too, where they have not agreed upon it."""
        agreed = self._signals.held and not trainer.predicting
        if isinstance(exception, SystemExit) and not agreed:
            _signal_children(trainer, signal.SIGUSR1)  # of the signals the one with a code of 0

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let every checkpoint, of whatever callback, say exactly where the run stands."""
        if trainer.state.fn != "fit":
            return
        follows = validation_follows(trainer)
        if follows:
            repeat_validation(trainer, checkpoint)
        checkpoint[PROGRESS] = progress_of(trainer, pl_module)
        # Lightning forgets it, and does a step or an epoch before the callbacks say so again
        checkpoint[STOPPED] = self._arguments if trainer.should_stop and not follows else None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep until the run begins what cannot be restored before."""
        self._progress = checkpoint.get(PROGRESS)
        self._stopped = checkpoint.get(STOPPED)

    def _begin(self, trainer: Trainer) -> None:
        """Prepare the loops, which have been restored by now."""
        finish_epoch(trainer)
        stopped, self._stopped = self._stopped, None
        if trainer.state.fn != "fit" or stopped is None:
            return
        trainer.should_stop |= trainer.strategy.broadcast(stopped == self._arguments)
        if trainer.should_stop and trainer.fit_loop._can_stop_early and trainer.is_global_zero:
            log.info("Nothing is left to do: a callback had stopped the run, and is as it was.")

    def _is_due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        if step == self._saved_step:
            return False
        if self.every_n_train_steps is not None and step % self.every_n_train_steps == 0:
            return True
        minutes = (time.monotonic() - self._saved_at) / 60
        return self.every_minutes is not None and minutes >= self.every_minutes

    def _leave_if_asked(self, trainer: Trainer, due: bool = False, save: bool = True) -> bool:
        """Leave if any process got a signal; return whether it is time to save in any of them."""
        number = int(self._signals.received or 0)
        if trainer.world_size > 1:
            wishes = torch.tensor([number, int(due)], device=trainer.strategy.root_device)
            distributed.all_reduce(wishes, distributed.ReduceOp.MAX)
            number, due = int(wishes[0]), bool(wishes[1])
        if number:
            self._leave(trainer, signal.Signals(number), save)
        return due

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined] # set where mypy is blind
            return
        files = trainer.strategy.checkpoint_io
        background = {"wait": False} if isinstance(files, SafeCheckpointIO) else None
        trainer.save_checkpoint(self.file, weights_only=False, storage_options=background)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _leave(self, trainer: Trainer, number: signal.Signals, save: bool) -> None:
        """Save, say so and exit; the processes that Lightning started exit with 0, as it needs."""
        fits = trainer.state.fn == "fit" and not trainer.sanity_checking
        if fits and save:
            self._save(trainer)
        if trainer.is_global_zero:
            step = trainer.global_step
            log.info("%s: the run leaves after step %d.", number.name, step)
            if fits:
                self._complain(trainer)
                advice = "Go on from it: the same command with --ckpt_path last"
                # there, "last" is that of a ModelCheckpoint, and without one training begins anew
                log.info("%s; in Python, ckpt_path=%r", advice, short(self.file))
            slurm = _slurm(trainer)
            if slurm is not None and slurm.auto_requeue and number == slurm.requeue_signal:
                requeue()
        launched = isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher)
        raise SystemExit(0 if launched and not trainer.is_global_zero else CODES.get(number, 0))

    def _complain(self, trainer: Trainer) -> None:
        """Raise if a checkpoint could not be saved, and none after it under its name."""
        files = trainer.strategy.checkpoint_io
        if isinstance(files, SafeCheckpointIO):
            files.wait()
            if files.failures:
                file, reason = next(iter(files.failures.items()))
                raise OSError(
                    f"{file} could not be saved ({reason}): make room, and go on from the "
                    "checkpoint before it."
                )


_WITH_FOLDER = (LastCheckpoint, ModelCheckpoint)


def _ends_within_epoch(trainer: Trainer) -> bool:
    """Return whether a run ends before its epoch does; there it will go on, when it goes on."""
    loop = trainer.fit_loop.epoch_loop
    stops = trainer.should_stop and trainer.fit_loop._can_stop_early
    return not loop.batch_progress.is_last_batch and (stops or loop._is_training_done)


def _arguments(trainer: Trainer) -> list[Any]:
    """Return the callbacks that may stop a run, with their arguments that are JSON primitives."""
    found = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set where mypy is blind
        if not isinstance(callback, Checkpoint | GivenSettings):
            names = inspect.signature(type(callback)).parameters
            values = {n: vars(callback).get(n, vars(callback).get(f"_{n}")) for n in names}
            simple = {n: v for n, v in values.items() if type(v) in (bool, int, float, str)}
            found.append([type(callback).__name__, simple])
    return sorted(found, key=str)


def _slurm(trainer: Trainer) -> SLURMEnvironment | None:
    environment = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) else None


def _signal_children(trainer: Trainer, number: signal.Signals) -> None:
    """Send a signal to the other processes of a run, where this one has started them.

    Lightning kills this one some time after another one has ended with any code but 0.
    """
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(number)
