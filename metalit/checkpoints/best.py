"""What a run that goes on knows of its best checkpoints so far."""

import logging
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from .files import keep_aside

log = logging.getLogger(__name__)


def restore_best(trainer: Trainer, states: dict[str, Any]) -> None:
    """Let every `ModelCheckpoint` find its state, and lose no best checkpoint where there is none.

    Lightning passes over a state whose callback has other intervals by now, and over most of one
    that names another folder; whatever is scored next is then the best, and takes the name of
    what was. So a state follows its callback to other intervals, and to the folder in which its
    best checkpoint lies by now. Where what is monitored has changed, the best by that so far is
    kept under another name.

    Args:
        trainer: Trainer of the run that goes on.
        states: States of callbacks in its checkpoint, by `state_key`, which are changed.
    """
    callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    free = states.keys() - {callback.state_key for callback in callbacks}
    for callback in callbacks:
        key = callback.state_key
        if key not in states:
            same = [other for other in free if _measure(other) == _measure(key)]
            if len(same) == 1:  # of several, nobody knows which is meant
                free -= {same[0]}
                states[key] = states.pop(same[0])
        # a state of another class may hold anything
        if key in states and states[key].get("dirpath", callback.dirpath) != callback.dirpath:
            moved = _moved(states.pop(key), str(callback.dirpath))
            if trainer.strategy.broadcast(Path(moved["best_model_path"] or ".").exists()):
                states[key] = moved
        file = Path(callback.format_checkpoint_name({}))
        if key not in states and file.is_file() and trainer.is_global_zero:
            log.warning(
                "%s is the best by what was monitored so far: it is kept as %s.",
                *(file.name, keep_aside(file).name),
            )


def _measure(key: str) -> str:
    """Return the part of a `state_key` that says what is the best: class, monitor and mode."""
    return key.partition("'every_n_train_steps'")[0]


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return a state in which all paths below its folder lead below another one."""

    def move(path: str) -> str:
        inside = Path(path).is_relative_to(before) and ".." not in Path(path).parts
        return str(folder / Path(path).relative_to(before)) if inside else path

    before = state["dirpath"]
    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    models = {move(path): score for path, score in state["best_k_models"].items()}
    moved = {name: move(state[name]) for name in paths}
    return {**state, **moved, "dirpath": folder, "best_k_models": models}
