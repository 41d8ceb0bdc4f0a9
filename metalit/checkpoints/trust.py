"""Which classes a checkpoint may name: a class path is code, too."""

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

PACKAGES = {"kornia", "lightning", "metalit", "sklearn", "torch", "torchmetrics", "umap"}
"""Packages whose classes are built where a checkpoint names them."""

RUNS_CODE = ("torch.hub.", "torch.jit.", "torch.load", "torch.package.", "torch.utils.cpp_ext")
"""Beginnings of what runs code that it is given, or finds in a file, all the same."""

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def refuse_foreign_code(description: Any, file: str, trusted: Any = None) -> None:
    """Raise if a checkpoint names a class of a module that nobody but the checkpoint asks for.

    To build a model from its description, modules are imported, which runs them. The packages
    above may be named, modules that are imported already, and modules that the user's own
    configuration names, but of Python's standard library nothing.

    Args:
        description: Class paths and arguments of a checkpoint, as JSON primitives.
        file: The checkpoint, for the error.
        trusted: The user's own configuration, as JSON primitives.

    Raises:
        ValueError: If the checkpoint names anything else.
    """
    own = {path.partition(".")[0] for path in _paths(trusted)} - sys.stdlib_module_names
    for path in _paths(description):
        package = path.partition(".")[0]
        if package in sys.stdlib_module_names or path.startswith(RUNS_CODE):
            refused = _is_callable(path)
        else:
            known = package in PACKAGES or package in own or package in sys.modules
            refused = not known and find_spec(package) is not None
        if refused:
            raise ValueError(
                f"{file} names {path}, and a checkpoint may not choose what code is run: import "
                f"{package} first if it is yours, or give the model with --config."
            )


def _paths(description: Any) -> Iterator[str]:
    """Return every text that could be an import path."""
    if isinstance(description, dict):
        for key, value in description.items():
            yield from _paths(key)
            yield from _paths(value)
    elif isinstance(description, list | tuple):
        for value in description:
            yield from _paths(value)
    elif isinstance(description, str) and _PATH.fullmatch(description):
        yield description


def _is_callable(path: str) -> bool:
    """Return whether a path of a module that is installed for sure names a class or function."""
    try:
        return callable(resolve_name(path))
    except (AttributeError, ImportError):
        return False
