"""Other values for every leaf of a configuration, other classes, and other data."""

import copy
import math
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from small_run import CONFIG

Place = tuple[str | int, ...]

RICH = """
model:
  init_args:
    learner:
      class_path: SupervisedMetaLearner
      init_args:
        learners:
          maml:
            class_path: MAML
            init_args:
              network: {class_path: MLP, init_args: {in_features: 2, hidden: 8, out_features: 2}}
              inner_loop: {class_path: GradientDescent, init_args: {lr: 0.1}}
              inner_loss: {class_path: torch.nn.CrossEntropyLoss}
          tree:
            class_path: SklearnClassifier
            init_args: {estimator: {class_path: sklearn.tree.DecisionTreeClassifier}}
    lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 3}}
data:
  init_args:
    val_tasks: {class_path: LabelTasks, init_args: {way: 2, shot: 2, query_shot: 3}}
    tasks:
      class_path: AugmentationTasks
      init_args:
        way: 2
        shot: 1
        query_shot: 2
        augmentation: {class_path: Noise, init_args: {std: 0.1}}
trainer:
  logger: {class_path: metalit.loggers.CSV}
  callbacks:
  - {class_path: EarlyStopping, init_args: {monitor: val/loss, patience: 9}}
"""


def _merged(base: Any, more: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(more, dict)):
        return more
    if more.get("class_path") not in (None, base.get("class_path")):
        return more
    return {k: _merged(base.get(k), more[k]) if k in more else base[k] for k in {**base, **more}}


CONFIGS = {
    "plain": CONFIG,
    "rich": yaml.safe_dump(_merged(yaml.safe_load(CONFIG), yaml.safe_load(RICH))),
}
"""Configurations of the runs that are resumed."""

_LEARNER = ("model", "init_args", "learner")
CLASSES: dict[str, list[tuple[Place, Any]]] = {
    "plain": [
        ((*_LEARNER, "init_args", "inner_loss"), {"class_path": "torch.nn.MultiMarginLoss"}),
        (
            (*_LEARNER, "init_args", "network"),
            {
                "class_path": "torch.nn.Linear",
                "init_args": {"in_features": 2, "out_features": 2},
            },
        ),
        (
            _LEARNER,
            {
                "class_path": "Prototypes",
                "init_args": {
                    "network": {
                        "class_path": "MLP",
                        "init_args": {"in_features": 2, "hidden": 8, "out_features": 2},
                    }
                },
            },
        ),
        (("model", "init_args", "loss"), {"class_path": "torch.nn.MultiMarginLoss"}),
        (("model", "init_args", "metric"), {"class_path": "MatchedAccuracy"}),
        (
            ("model", "init_args", "optimizer"),
            {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01}},
        ),
        (
            ("model", "init_args", "lr_scheduler"),
            {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 3}},
        ),
        (("data", "init_args", "tasks"), {"class_path": "BlobTasks"}),
        (("data", "init_args", "dataset"), {"class_path": "Digits"}),
        (("trainer", "callbacks"), [{"class_path": "LearningRateMonitor"}]),
        (("trainer", "logger"), [{"class_path": "metalit.loggers.CSV"}]),
    ],
    "rich": [
        (("model", "init_args", "lr_scheduler"), None),
        (("trainer", "callbacks"), None),
        (("data", "init_args", "val_tasks"), None),
    ],
}
"""Places of the configurations and what is put there instead."""

HARMLESS = ("model.tasks", "model.chunk", "model.compiled", "model.max_skipped_steps")
HARMLESS += ("data.num_workers", "data.test_*", "model.optimizer.*")
EPISODES = ("trainer.limit_train_batches", "trainer.limit_val_batches", "trainer.overfit_batches")
CHOSEN_BY_RUN = ("trainer.logger.save_dir",)
"""What a run sets itself: all that it writes goes into its folder."""


def must_be_refused(name: str) -> bool:
    """Return whether a change is one of the model or of the episodes: the promise, said anew."""
    if any(fnmatchcase(name, pattern) for pattern in HARMLESS):
        return False
    return name in EPISODES or name.startswith(("model", "data"))


def leaves(config: Any, place: Place = ()) -> Iterator[Place]:
    """Return the place of every scalar, but those that say how a run is started."""
    if isinstance(config, dict) and config:
        for key, value in config.items():
            if place or key not in ("ckpt_path", "config", "weights_only", "allow_changes"):
                yield from leaves(value, (*place, key))
    elif isinstance(config, list) and config:
        for number, value in enumerate(config):
            yield from leaves(value, (*place, number))
    elif place[-1] != "class_path":
        yield place


def look_up(config: Any, place: Place) -> Any:
    """Return the value at a place."""
    for key in place:
        config = config[key]
    return config


def changed(config: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """Return a copy with another value at a place."""
    config = copy.deepcopy(config)
    look_up(config, place[:-1])[place[-1]] = value
    return config


def dotted(place: Place, lists: bool = False) -> str:
    """Return the name of a place as the command line says it: a list is one value."""
    names = []
    for key in place:
        if isinstance(key, int) and not lists:
            break
        if key != "init_args":
            names.append(str(key))
    return ".".join(names)


def candidates(place: Place, value: Any) -> list[Any]:
    """Return other values for a leaf, likely ones first."""
    texts = [
        "x",
        "cpu",
        "auto",
        "max",
        "min",
        "train",
        "batched",
        "loop",
        "labels",
        "norm",
        "32-true",
    ]
    texts += [
        "fit",
        "always",
        "never",
        "mean",
        "sum",
        "linear",
        "step",
        "epoch",
        "best",
        "log2",
        "row",
    ]
    if isinstance(value, bool):
        likely = [not value]
    elif isinstance(value, int):
        likely = [value + 1, 2 * value, max(value - 1, 0), 1.0]
    elif isinstance(value, float):
        likely = [value / 2 + 0.01, value + 1, 1] if math.isfinite(value) else [0.5]
    elif isinstance(value, str):
        likely = [f"{value}x"]
    else:
        likely = [2, 0.5, True]
    others = [*likely, 1, 0.5, True, *texts, [1, 2], [0.5, 0.5], {"days": 1}, None]
    return [each for each in others if type(each) is not type(value) or each != value]


def _alter(file: Path, **change: Callable[[Any], Any]) -> None:
    arrays = dict(np.load(file))
    for name, make in change.items():
        arrays[name] = make(arrays[name].copy())
    np.savez(file, **arrays)


def _nudge(x: Any) -> Any:
    row = 0  # of the training split
    x[row, 0] = np.nextafter(x[row, 0], np.float32(9))
    return x


def _swap(y: Any) -> Any:
    y[[0, 1]] = y[[1, 0]]
    return y


DATA_CHANGES: dict[str, Callable[[Path], object]] = {
    "one bit of one number": lambda file: _alter(file, x=_nudge),
    "two labels exchanged": lambda file: _alter(file, y=_swap),
    "rows in another order": lambda file: _alter(file, x=np.flipud, y=np.flip),
    "the last row gone": lambda file: _alter(file, x=lambda x: x[:-1], y=lambda y: y[:-1]),
    "the file cut short": lambda file: file.write_bytes(file.read_bytes()[:-500]),
    "the file empty": lambda file: file.write_bytes(b""),
    "the file gone": lambda file: file.unlink(),
}
"""What happens to the data between the start of a run and its resumption."""
