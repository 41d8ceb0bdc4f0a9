"""Where a run stands when it is saved, in the words of Lightning's loops."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    Callback,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.loops.loop import _Loop
from torch import Tensor

PROGRESS = "metalit_progress"
"""Under this name a checkpoint holds what `progress_of` returns."""

STOPPED = "metalit_stopped"
"""Under this name it holds which callbacks there are, if one of them has stopped the run."""

SET_EPOCHS_UP = (GradientAccumulationScheduler, StochasticWeightAveraging)
"""Callbacks that set the trainer up for an epoch at its start, and keep no state of that."""


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


def repeat_validation(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Let a checkpoint say that validation was begun, so that a resumed run begins it anew.

    Lightning takes a run saved at the end of a step for one that has been validated, too, and one
    saved during validation for one whose first batches need not be repeated; their scores,
    though, are in no checkpoint.

    Args:
        trainer: Trainer of the run that is saved.
        checkpoint: What it saves, which is changed.
    """
    loops = checkpoint["loops"]["fit_loop"]
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
    if trainer.validating and _callbacks(trainer, WeightAveraging):
        # the model has the averaged weights during validation, and the callback those of the model
        averaged, current = checkpoint["current_model_state"], checkpoint["state_dict"]
        checkpoint.update(state_dict=averaged, current_model_state=current)


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
        processes their means over all; "metrics", the newest logged values, which schedules and
        checkpoints look at, even if they are of an earlier epoch; and "trainable", which
        parameters require gradients, where a callback decides that epoch by epoch.
    """
    gradients, trainable = {}, {}
    if trainer.accumulate_grad_batches > 1 and trainer.fit_loop._should_accumulate():
        gradients = {
            name: trainer.strategy.reduce(parameter.grad.clone(), reduce_op="mean")
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }
    if _callbacks(trainer, BaseFinetuning):
        trainable = {n: torch.tensor(p.requires_grad) for n, p in model.named_parameters()}
    metrics = dict(trainer.callback_metrics)
    return {"gradients": gradients, "metrics": metrics, "trainable": trainable}


def restore_progress(
    trainer: Trainer, model: LightningModule, progress: dict[str, dict[str, Tensor]]
) -> None:
    """Restore what `progress_of` returned, at the start of training."""
    trainer.callback_metrics.update(progress["metrics"])
    trainable = progress.get("trainable", {}) if _callbacks(trainer, BaseFinetuning) else {}
    for name, parameter in model.named_parameters():
        if name in trainable:
            parameter.requires_grad_(bool(trainable[name]))
        if name in progress["gradients"]:
            parameter.grad = progress["gradients"][name].to(parameter)
    if trainer.fit_loop.restarted_mid_epoch:
        _set_epoch_up(trainer, model)


def _set_epoch_up(trainer: Trainer, model: LightningModule) -> None:
    """Repeat what Lightning does at the start of an epoch, and not where it goes on within one."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    for callback in _callbacks(trainer, SET_EPOCHS_UP):
        callback.on_train_epoch_start(trainer, model)
    for group, rate in zip(groups, rates, strict=True):  # a schedule that is made sets its first
        group["lr"] = rate


def _callbacks(trainer: Trainer, kinds: type | tuple[type, ...]) -> list[Callback]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined] # mypy is blind there
    return [each for each in callbacks if isinstance(each, kinds)]
