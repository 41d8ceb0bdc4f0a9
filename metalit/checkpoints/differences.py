"""What the command line changes about the configuration that a checkpoint was made with."""

import logging
from collections.abc import Iterator
from fnmatch import fnmatchcase
from math import isnan
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from .best import restore_best
from .progress import STOPPED

log = logging.getLogger(__name__)

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

EPISODES = ("trainer.limit_train_batches", "trainer.limit_val_batches", "trainer.overfit_batches")
"""Names outside of model and data that say which episodes a run sees."""

ABOUT_THIS_START = {"allow_changes", "ckpt_path", "config", "weights_only"}
"""Options that say how a run was started, and nothing about the run."""


SECTIONS = {
    "checkpoint": "lightning.pytorch.callbacks.ModelCheckpoint",
    "last_checkpoint": "metalit.callbacks.LastCheckpoint",
    "summary": "metalit.callbacks.RunSummary",
}
"""Callbacks that have a section of the configuration for themselves."""


def differences(name: str, saved: Any, given: Any) -> Changes:
    """Return every value in which two configurations differ, under its dotted name."""
    if not isinstance(saved, dict) or not isinstance(given, dict):
        return {} if _is_same(saved, given) else {name: (saved, given)}
    if saved.get("class_path") != given.get("class_path"):  # whose arguments cannot be compared
        return {name: (saved.get("class_path"), given.get("class_path"))}
    found = {}
    for key in sorted({*saved, *given}):
        inner = name if key == "init_args" else f"{name}.{key}".lstrip(".")
        absent: Any = {} if key == "init_args" else None
        found.update(differences(inner, saved.get(key, absent), given.get(key, absent)))
    return found


def _is_same(saved: Any, given: Any) -> bool:
    """Compare values and their types: 1 is one batch or sample, 1.0 is all of them."""
    if isinstance(saved, list) and isinstance(given, list):
        return len(saved) == len(given) and all(map(_is_same, saved, given))
    if isinstance(saved, dict) and isinstance(given, dict):
        return saved.keys() == given.keys() and all(_is_same(saved[k], given[k]) for k in saved)
    if type(saved) is not type(given):
        return False
    return bool(saved == given) or (isinstance(saved, float) and isnan(saved) and isnan(given))


def run_differences(saved: dict[str, Any], given: dict[str, Any]) -> Changes:
    """Return the differences of the configurations of two starts of one run."""
    both = ({k: v for k, v in c.items() if k not in ABOUT_THIS_START} for c in (saved, given))
    return differences("", *both)


def log_changes(changes: Changes) -> None:
    """Say in one line each what differs."""
    for name, (then, value) in changes.items():
        log.warning("%s is %s in the checkpoint and %s now.", name, then, value)


def refuse_changes(
    changes: Changes, allowed: bool, allow: str = "give --allow_changes true"
) -> None:
    """Raise if what differs is what a resumed run learns, or from what, or cannot change.

    Args:
        changes: All that differs.
        allowed: Whether the user has asked for another model or other episodes.
        allow: How to ask for that.

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
        if (name in EPISODES or name.startswith(("model", "data")))
        and not any(fnmatchcase(name, pattern) for pattern in HARMLESS)
    ]
    if refused and not allowed:
        raise ValueError(
            f"{', '.join(refused)} would change the model or the episodes of the run that goes on: "
            f"leave it as it was, start a new run, or {allow}."
        )


def refuse_schedule_changes(changes: Changes) -> None:
    """Raise if what differs is set by the schedule of learning rates that is restored."""
    changed = [n for n in changes if n.startswith(("model.optimizer.", "model.lr_scheduler"))]
    if changed:
        raise ValueError(
            f"{', '.join(changed)} cannot change in a resumed run, whose learning rates "
            "follow the schedule of its checkpoint: keep it, or start a new run."
        )


def refuse_another_model(
    checkpoint: dict[str, Any],
    now: dict[str, Any],
    allowed: bool,
    optimizer: Optimizer,
) -> None:
    """Raise if a model is not the one of a checkpoint; parts that cannot be described may be any.

    What differs is logged, unless it is allowed. Settings of the optimizer may differ, and win over
    those that its state brings along.

    Args:
        checkpoint: The checkpoint, with the "outline" of its model.
        now: Outline of the model that goes on.
        allowed: Whether the model may be another, as far as its state fits.
        optimizer: One like that which goes on.

    Raises:
        ValueError: If the model is another, and may not be, or can be no other.
    """
    saved = checkpoint.get("outline", now)  # none of what others, and earlier versions, have saved
    changes = differences("model", saved, now)
    changes = {name: both for name, both in changes.items() if not _is_of_script(*both)}
    if not allowed:
        log_changes(changes)
    refuse_changes(changes, allowed, "set model_may_change of the model")
    if not allowed and any(each["init_args"].get("lr_scheduler") for each in (saved, now)):
        refuse_schedule_changes(changes)
    names = {n.rpartition(".")[2] for n in changes if n.startswith("model.optimizer.")}
    given = optimizer.defaults
    for state in checkpoint["optimizer_states"]:
        for group in state["param_groups"]:
            group.update({name: given[name] for name in names & given.keys()})


def _is_of_script(saved: Any, given: Any) -> bool:
    """Return whether two paths may be of one class: of a script, which was run or is imported."""
    paths = [value for value in (saved, given) if isinstance(value, str)]
    return len({path.rpartition(".")[2] for path in paths}) == 1 and any(
        path.startswith("__main__.") for path in paths
    )


def refuse_weights_alone(checkpoint: dict[str, Any], file: Any) -> None:
    """Raise if training cannot go on from a checkpoint, which has weights and no optimizer."""
    if "optimizer_states" not in checkpoint:
        raise ValueError(
            f"{file} was saved with save_weights_only, and training goes on from a checkpoint that "
            "has the state of the optimizer, too: give last, or another file."
        )


def changed_arguments(saved: dict[str, Any], given: dict[str, Any]) -> dict[str, set[str]]:
    """Return the names of the arguments of callbacks that differ, by class path.

    Args:
        saved: Configuration of the run so far.
        given: Configuration of the run that goes on.
    """
    before = dict(_callbacks(saved))
    return {
        path: {name for name, value in arguments.items() if before[path].get(name) != value}
        for path, arguments in _callbacks(given)
        if path in before
    }


def _callbacks(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return class path and arguments of every callback of a configuration."""
    for section, path in SECTIONS.items():
        yield path, config.get(section) or {}
    listed = config.get("trainer", {}).get("callbacks") or []
    for each in listed if isinstance(listed, list) else [listed]:
        yield each["class_path"], each.get("init_args") or {}


class GivenSettings(Callback):
    """Lets what the user has changed win over what the states in a checkpoint bring along.

    A resumed optimizer brings its learning rate, an `EarlyStopping` its patience.

    Args:
        optimizer: Settings of the optimizer that have changed.
        arguments: Names of the arguments that have changed, by class path of the callback.
        anew: Whether to train on where a callback had stopped the run, since anything has changed.
    """

    def __init__(
        self, optimizer: dict[str, Any], arguments: dict[str, set[str]], anew: bool
    ) -> None:
        self.anew = anew
        self.optimizer = optimizer
        self.arguments = {path.rpartition(".")[2]: names for path, names in arguments.items()}
        self._given: list[tuple[Callback, dict[str, Any]]] = []

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look at the arguments of all callbacks, whose states are restored after this."""
        restore_best(trainer, checkpoint["callbacks"])
        if self.anew:
            checkpoint.pop(STOPPED, None)
        for callback in trainer.callbacks:  # type: ignore[attr-defined] # set where mypy is blind
            names = self.arguments.get(type(callback).__name__, set())
            given = {name: value for name, value in vars(callback).items() if name in names}
            self._given.append((callback, given))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put back the arguments."""
        for callback, given in self._given:
            vars(callback).update(given)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the optimizer, which was restored by now."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group.update(self.optimizer)
