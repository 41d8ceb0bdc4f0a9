"""Where a run stands when it is saved, in the words of Lightning's loops."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.loops.loop import _Loop
from torch import Tensor

PROGRESS = "metalit_progress"
"""Under this name a checkpoint holds what `progress_of` returns."""


def validation_follows(trainer: Trainer) -> bool:
    """Return whether validation comes next, or is going on, with nothing trained in between."""
    loop = trainer.fit_loop.epoch_loop
    progress: Any = loop.val_loop.batch_progress
    if trainer.validating:
        return not (progress.is_last_batch and progress.current.completed == progress.current.ready)
    fetcher = trainer.fit_loop._data_fetcher
    progress = loop.batch_progress
    in_batch_end = progress.total.processed == progress.total.completed + 1
    return in_batch_end and fetcher is not None and loop._should_check_val_fx(fetcher)


def repeat_validation(loops: dict[str, Any]) -> None:
    """Let the loops' state say that validation was begun, so that a resumed run begins it anew.

    Lightning takes a run saved at the end of a step for one that has been validated, too, and one
    saved during validation for one whose first batches need not be repeated; their scores,
    though, are in no checkpoint.

    Args:
        loops: State of the fit loop, which is changed.
    """
    progress = loops["epoch_loop.batch_progress"]
    for count in (progress["total"], progress["current"]):
        count["completed"] = count["processed"]
    none = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    loops["epoch_loop.val_loop.batch_progress"] = {
        "total": begun,
        "current": none,
        "is_last_batch": False,
    }


def count_validation(trainer: Trainer) -> None:
    """Forget the batch that `repeat_validation` made up, now that validation has begun."""
    total: Any = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total
    total.ready = total.started = total.processed = total.completed


def finish_epoch(trainer: Trainer) -> None:
    """Let a run that was saved at the end of an epoch begin the next one.

    Lightning does so by itself, but not where `max_steps` is given: it ends that epoch once more.
    To be called before the fit loop begins.
    """
    loop = trainer.fit_loop
    total: Any = loop.epoch_progress.total
    if loop.is_resuming and total.ready == total.processed == total.completed + 1:
        _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined] # of a property


def progress_of(trainer: Trainer, model: LightningModule) -> dict[str, dict[str, Tensor]]:
    """Return what Lightning's own state lacks, as tensors by name.

    Returns:
        "gradients" of the meta-batches since the last step of the optimizer, with several
        processes their means over all; and "metrics", the newest logged values, which schedules
        and checkpoints look at, even if they are of an earlier epoch.
    """
    gradients = {}
    if trainer.accumulate_grad_batches > 1 and trainer.fit_loop._should_accumulate():
        gradients = {
            name: trainer.strategy.reduce(parameter.grad.clone(), reduce_op="mean")
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
    return {"gradients": gradients, "metrics": dict(trainer.callback_metrics)}


def restore_progress(
    trainer: Trainer, model: LightningModule, progress: dict[str, dict[str, Tensor]]
) -> None:
    """Restore what `progress_of` returned, at the start of training."""
    trainer.callback_metrics.update(progress["metrics"])
    for name, parameter in model.named_parameters():
        if name in progress["gradients"]:
            parameter.grad = progress["gradients"][name].to(parameter)
