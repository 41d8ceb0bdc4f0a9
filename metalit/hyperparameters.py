"""Objects written as class paths and arguments, and built again: what a checkpoint knows."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
from jsonargparse import ArgumentError, ArgumentParser
from sklearn.base import BaseEstimator
from torch import Tensor, nn

Description = Any  # JSON primitives: None, bool, int, float, str, list and dict of these


class UndescribableError(TypeError):
    """Raised where an object cannot be written as a class path and arguments."""


def describe(value: object) -> Description:
    """Write an object as JSON primitives, in the form of a YAML config.

    Objects become `{"class_path": …, "init_args": …}`; their arguments are read back from
    attributes of the same names, scikit-learn's convention, which all of metalit follows. A
    function becomes its import path.

    Raises:
        UndescribableError: If an object does not keep an argument under its name, takes any number
            of them (as `nn.Sequential` does), or is a lambda or a tensor.
    """
    if isinstance(value, np.generic):
        return value.item()
    for kind in (bool, int, float, str):
        if isinstance(value, kind):  # an object of a subclass could not be read from a checkpoint
            return kind(value)
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, nn.ModuleDict):
        return {key: describe(module) for key, module in value.items()}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, partial):
        # a factory that jsonargparse built calls a function of its own, with the class last
        target = value.args[-1] if value.args else value.func
        if value.args and not inspect.isclass(target):
            raise UndescribableError(f"{value} has arguments without a name.")
        described = {"class_path": _path(target)}
        return {**described, "init_args": describe(value.keywords)} if value.keywords else described
    if isinstance(value, Tensor):
        raise UndescribableError("a tensor cannot be written in a config.")
    if inspect.isfunction(value):
        return _path(value)
    if inspect.isclass(value):
        return {"class_path": _path(value)}
    if isinstance(value, BaseEstimator):
        return {
            "class_path": _path(type(value)),
            "init_args": describe(value.get_params(deep=False)),
        }
    return {"class_path": _path(type(value)), "init_args": describe_arguments(value)}


def outline(value: object) -> Description:
    """Write an object as `describe` does, for a comparison with another start of the same program.

    Parts of modules that cannot be said are left out; optimizers and schedules have their defaults,
    too.
    """
    if isinstance(value, partial | type):
        return _with_defaults(value if isinstance(value, partial) else partial(value))
    parts = vars(value).values() if isinstance(value, nn.Module) else ()
    if not any(isinstance(part, partial | type) for part in parts):
        try:
            return describe(value)
        except UndescribableError:
            if not isinstance(value, nn.Module):
                raise
    said: dict[str, Description] = {"init_args": {}}
    with suppress(UndescribableError):
        said["class_path"] = _path(type(value))
    for name in _parameters(type(value)):
        if hasattr(value, name):
            with suppress(UndescribableError):
                said["init_args"][name] = outline(getattr(value, name))
    return said


def _with_defaults(factory: partial[Any]) -> Description:
    described = describe(factory)
    arguments = described.setdefault("init_args", {})
    target: Any = factory.args[-1] if factory.args else factory.func
    for name, parameter in _parameters(target).items():
        if parameter.default is not parameter.empty and name not in arguments:
            with suppress(UndescribableError):
                arguments[name] = describe(parameter.default)
    return described


def describe_arguments(value: object) -> dict[str, Description]:
    """Write the arguments of an object's `__init__` as JSON primitives."""
    arguments: dict[str, Description] = {}
    if type(value).__init__ is nn.Module.__init__:  # which takes any arguments and refuses them
        return arguments
    for name, parameter in _parameters(type(value)).items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UndescribableError(f"{_path(type(value))} takes arguments without names.")
        if hasattr(value, name):
            kept = getattr(value, name)
            # `bias` of nn.Linear and many more: true makes a parameter, false leaves None
            made = isinstance(parameter.default, bool) and parameter.annotation in (bool, "bool")
            is_made = made and (kept is None or isinstance(kept, Tensor))
            arguments[name] = kept is not None if is_made else describe(kept)
        elif parameter.default is parameter.empty or not _path(type(value)).startswith("torch."):
            raise UndescribableError(f"{_path(type(value))} does not keep its argument {name!r}.")
    return arguments


def build_arguments(target: type, arguments: dict[str, Description]) -> dict[str, Any]:
    """Build arguments of a class from their description, checked against its annotations.

    Raises:
        ValueError: If the description does not fit the class.
    """
    others = set(inspect.signature(target).parameters) - set(arguments)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(target, "target", instantiate=False, skip=others)
    try:
        config = parser.parse_object({"target": deepcopy(arguments)}, defaults=False)
    except ArgumentError as error:
        raise ValueError(f"cannot build {target.__name__}: {error}") from error
    return dict(parser.instantiate(config).target.items(branches=False)) if arguments else {}


def _parameters(target: type) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except ValueError as error:  # it is written in C
        raise UndescribableError(f"{_path(target)} does not say its arguments.") from error


def _path(target: Any) -> str:
    name: str = target.__qualname__
    if "<" in name or "." in name:
        raise UndescribableError(f"{name} cannot be imported by its name.")
    return f"{target.__module__}.{name}"
