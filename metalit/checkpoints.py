"""What a checkpoint holds, and what the command line changes about it."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


def load_checkpoint(file: str) -> dict[str, Any]:
    """Load a checkpoint onto the CPU; nothing in it is ever executed.

    Raises:
        ValueError: If it is no checkpoint of Lightning's.
    """
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, EOFError, RuntimeError and more
        raise ValueError(f"{file} is no checkpoint, or a damaged one: give another.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(
            f"{file} has no state_dict but must be a checkpoint of a run: give another."
        )
    return checkpoint


def differences(name: str, saved: Any, given: Any) -> dict[str, tuple[Any, Any]]:
    """Return every value in which two configurations differ, under its dotted name."""
    if not isinstance(saved, dict) or not isinstance(given, dict):
        return {} if saved == given else {name: (saved, given)}
    if saved.get("class_path") != given.get("class_path"):  # whose arguments cannot be compared
        return {name: (saved.get("class_path"), given.get("class_path"))}
    found = {}
    for key in sorted({*saved, *given}):
        inner = name if key == "init_args" else f"{name}.{key}"
        found.update(differences(inner, saved.get(key), given.get(key)))
    return found


class OptimizerSettings(Callback):
    """Lets settings of the optimizer win over those that a resumed optimizer brings along."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set them, since by now the optimizer was restored from the checkpoint."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group.update(self.settings)
