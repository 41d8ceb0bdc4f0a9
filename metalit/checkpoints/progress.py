"""Where a run stands when it is saved, in the words of Lightning's loops."""

from typing import Any

from lightning import LightningModule, Trainer
from torch import Tensor

GRADIENTS = "accumulated_gradients"


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


def accumulated_gradients(trainer: Trainer, model: LightningModule) -> dict[str, Tensor]:
    """Return the gradients of the meta-batches since the last step of the optimizer, by name.

    Empty where the optimizer takes a step after every meta-batch. With several processes they are
    the means over all.
    """
    if trainer.accumulate_grad_batches == 1 or not trainer.fit_loop._should_accumulate():
        return {}
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {
        name: trainer.strategy.reduce(gradient.clone(), reduce_op="mean")
        for name, gradient in gradients.items()
    }


def restore_gradients(model: LightningModule, gradients: dict[str, Tensor]) -> None:
    """Let the parameters have gradients again."""
    for name, parameter in model.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter)
