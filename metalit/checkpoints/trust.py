"""What a checkpoint may name: an import path is code, too."""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass, signature
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import yaml
from sklearn.base import BaseEstimator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

PARTS = (nn.Module, BaseEstimator, Optimizer, LRScheduler)
"""What a model is made of: classes below these may be built where a checkpoint names them."""

PACKAGES = ("metalit", "sklearn", "torch")
"""Installed for sure, so that their modules may be imported where a checkpoint names them."""

MODEL = (
    "anomaly_scores",
    "augmentations",
    "combinations",
    "graphs",
    "inner_loops",
    "learners",
    "losses",
    "meta_learner",
    "metrics",
    "networks",
    "partitions",
    "pseudo_labels",
)
"""Modules of metalit whose classes a model may be made of; others start processes, or write."""

MATHS = ("torch", "torch._C._nn", "torch._C._special", "torch.nn.functional")
"""Modules of functions that only compute, but for those that make files."""

FILES = ("from_file", "save", "load")
"""Names of functions that read or write files."""

Texts = Iterator[tuple[str, str]]


def refuse_foreign_code(description: Any, file: str | Path, trusted: Any = None) -> None:
    """Raise if a checkpoint names what may run code that nobody but the checkpoint asks for.

    To build a model from its description, modules are imported and objects called, which a
    checkpoint must not choose freely. It may name classes of what a model is made of, defined in
    some modules of metalit, in scikit-learn, `torch.nn`, `torch.optim` or a module that was
    imported already;
    functions of torch that only compute; and, word for word, what the user's own configuration
    names. No module is imported but those of these three packages.

    Every text counts that jsonargparse could take for a path, also in YAML within a text. Neither
    may a text name a file with more of the configuration, nor a folder of cached results, which
    joblib unpickles.

    Args:
        description: Class paths and arguments of a checkpoint, as JSON primitives.
        file: The checkpoint, for the error.
        trusted: The user's own configuration, as JSON primitives.

    Raises:
        ValueError: If the checkpoint names anything else.
    """
    own = {text for _, text in _texts("", trusted)}
    for key, text in _texts("", description):
        if text in own:
            continue
        if _may_run_code(text):
            raise ValueError(
                f"{file} names {text}, and a checkpoint may not choose what code is run: if it is "
                "yours, import its module first, or give the model with --config."
            )
        if _is_settings_file(text) or (key.endswith("memory") and os.path.isdir(text)):
            raise ValueError(
                f"{file} names {text} on this disk, and a checkpoint may not choose what is read: "
                "move it away, or give the model with --config."
            )


def refuse_forced_unpickling() -> None:
    """Raise if the environment lets `torch.load` run code though `weights_only=True` is given."""
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0") not in ("", "0"):
        raise ValueError(
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set but checkpoints are read without running "
            "code: unset it."
        )


def _texts(key: str, value: Any) -> Texts:
    """Return every text below a key with the key it stands under, keys among them."""
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _texts("", inner)
            yield from _texts(str(inner), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(key, item)
    elif isinstance(value, str):
        yield key, value
        try:
            parsed = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # ValueError: a date that is none
            return
        if parsed != value:
            yield from _texts(key, parsed)


def _may_run_code(text: str) -> bool:
    """Return whether a text is an import path that a checkpoint may not name."""
    names = text.split(".")
    if len(names) == 1 or not all(name.isidentifier() for name in names):
        return False
    found: Any = sys.modules.get(names[0])
    if found is None:
        return _can_be_found(names[0])
    for end, name in enumerate(names[1:], 2):
        path = ".".join(names[:end])
        # as `from a.b import c` does: a module wins over an attribute, but not in the last place
        if path in sys.modules and end < len(names):
            found = sys.modules[path]
        elif (end < len(names) or not _has(found, name)) and _can_be_found(path):
            if names[0] not in PACKAGES:
                return True
            try:
                found = import_module(path)
            except ImportError:
                return False
        elif _has(found, name):
            found = getattr(found, name)
        else:
            return False  # a text like any other
    return callable(found) and not _is_harmless(found)


def _has(found: Any, name: str) -> bool:
    try:
        getattr(found, name)
    except AttributeError:
        return False
    return True


def _can_be_found(module: str) -> bool:
    """Return whether a module could be imported, without doing so: its parent was already."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _is_harmless(found: Any) -> bool:
    """Return whether something may be called with arguments that a checkpoint chooses."""
    module = str(getattr(found, "__module__", None))
    package = module.partition(".")[0]
    if isclass(found):
        if package == "metalit":
            return module.split(".")[1] in MODEL
        below = module.startswith(("torch.nn.", "torch.optim.")) or package != "torch"
        return issubclass(found, PARTS) and below
    if package == "metalit":  # a function that makes a part, as those in configs do
        made = signature(found).return_annotation
        return isclass(made) and issubclass(made, PARTS)
    computes = isinstance(found, BuiltinFunctionType) or module == "torch.nn.functional"
    return module in MATHS and computes and found.__name__ not in FILES


def _is_settings_file(text: str) -> bool:
    """Return whether jsonargparse may read a configuration from a file of this name."""
    if not os.path.isfile(text):
        return False
    with open(text, "rb") as stream:
        return stream.read(4) != b"PK\3\4"  # a checkpoint, which no YAML begins as
