"""What the command line changes about the configuration that a checkpoint was made with."""

from fnmatch import fnmatchcase
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

Changes = dict[str, tuple[Any, Any]]
"""Values before and now, by their dotted names."""

HARMLESS = (
    "model.optimizer*",
    "model.lr_scheduler*",
    "model.tasks",
    "model.chunk",
    "model.compiled",
    "model.max_skipped_steps",
    "data.num_workers",
    "data.test_*",
)
"""Patterns of the names that change neither model nor training and validation episodes."""

ABOUT_THIS_START = {"allow_changes", "ckpt_path", "config", "weights_only"}
"""Options that say how a run was started, and nothing about the run."""


def differences(name: str, saved: Any, given: Any) -> Changes:
    """Return every value in which two configurations differ, under its dotted name."""
    if not isinstance(saved, dict) or not isinstance(given, dict):
        return {} if saved == given else {name: (saved, given)}
    if saved.get("class_path") != given.get("class_path"):  # whose arguments cannot be compared
        return {name: (saved.get("class_path"), given.get("class_path"))}
    found = {}
    for key in sorted({*saved, *given}):
        inner = name if key == "init_args" else f"{name}.{key}".lstrip(".")
        found.update(differences(inner, saved.get(key), given.get(key)))
    return found


def run_differences(saved: dict[str, Any], given: dict[str, Any]) -> Changes:
    """Return the differences of the configurations of two starts of one run."""
    both = ({k: v for k, v in c.items() if k not in ABOUT_THIS_START} for c in (saved, given))
    return differences("", *both)


def refuse_changes(changes: Changes, allowed: bool) -> None:
    """Raise if what differs is what a resumed run learns, or from what, or cannot change.

    Args:
        changes: All that differs.
        allowed: Whether the user has asked for another model or other episodes.

    Raises:
        ValueError: If the model, the episodes, the class of the optimizer, or a learning rate that
            a schedule sets would change.
    """
    if "model.optimizer" in changes:
        raise ValueError(
            "model.optimizer cannot change its class in a resumed run, which restores the "
            "optimizer's state: keep it, or start a new run."
        )
    refused = [
        name
        for name in changes
        if name.startswith(("model", "data"))
        and not any(fnmatchcase(name, pattern) for pattern in HARMLESS)
    ]
    if refused and not allowed:
        raise ValueError(
            f"{', '.join(refused)} would change the model or the episodes of the run that goes on: "
            "leave it as it was, start a new run, or give --allow_changes true."
        )


def refuse_schedule_changes(changes: Changes) -> None:
    """Raise if what differs is set by the schedule of learning rates that is restored."""
    changed = [n for n in changes if n.startswith(("model.optimizer.", "model.lr_scheduler"))]
    if changed:
        raise ValueError(
            f"{', '.join(changed)} cannot change in a resumed run, whose learning rates "
            "follow the schedule of its checkpoint: keep it, or start a new run."
        )


class OptimizerSettings(Callback):
    """Lets settings of the optimizer win over those that a resumed optimizer brings along."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set them, since by now the optimizer was restored from the checkpoint."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group.update(self.settings)
