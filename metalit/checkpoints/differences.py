"""What the command line changes about the configuration that a checkpoint was made with."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


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
