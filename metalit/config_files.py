"""Checks of configurations: what the parser would forgive, hang at, or say nothing useful of."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import Namespace

SETTINGS = ("trainer", "checkpoint", "last_checkpoint", "summary")  # sections that are no classes


def check_configs(arguments: Sequence[str]) -> None:
    """Check each file that is named by --config or -c; those that are absent are left to others.

    Args:
        arguments: Arguments of the command line.

    Raises:
        ValueError: If a file is no text or no YAML, or a key in it stands twice.
    """
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c"):
            file = value if equals else "".join(arguments[place + 1 : place + 2])
            if file and _exists(Path(file)):
                check_config(Path(file))


def check_config(file: Path) -> None:
    """Check that a file is YAML of sections with names, each of which stands once.

    Raises:
        ValueError: If it is not.
    """
    try:
        text = file.read_bytes().decode()
    except IsADirectoryError:
        raise ValueError(f"--config names {file}, which is a folder: give a YAML file.") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is no text (byte {error.start} cannot be read): save it as UTF-8."
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(
            f"the configuration is no YAML ({_reason(error)}): correct {file}."
        ) from error
    if not isinstance(root, yaml.MappingNode):
        kinds = {yaml.ScalarNode: "one value", yaml.SequenceNode: "a list"}
        held = kinds.get(type(root), "nothing")
        raise ValueError(
            f"{file} holds {held} but sections such as model, data and trainer are needed: give "
            "a file that has them."
        )
    _check_node(root, str(file), (), ())
    for key, value in root.value:
        if key.value in SETTINGS and not isinstance(value, yaml.MappingNode):
            raise ValueError(
                f"{key.value} is {str(value.value)[:40]!r} in {file} but settings are needed: "
                f"write {key.value}: {{NAME: VALUE}}, or leave it out."
            )


def refuse_nothing(config: Namespace, kinds: Mapping[str, type]) -> None:
    """Refuse a None where the class that gets it needs a value; the parser lets each None pass.

    Args:
        config: A parsed configuration.
        kinds: Classes of the sections that have no `class_path`.

    Raises:
        ValueError: If there is one.
    """
    for section, value in vars(config).items():
        if section in kinds and isinstance(value, Namespace):
            _check_arguments(section, kinds[section], value)
        for name, found in _classes(section, value):
            given = found.get("init_args")
            if isinstance(given, Namespace):
                _check_arguments(name, _load(found["class_path"]), given)


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a name that is too long
        return False


def _check_node(node: yaml.Node, file: str, names: tuple[str, ...], above: tuple[int, ...]) -> None:
    """Refuse a node that holds itself, keys that stand twice, and keys beside a class_path."""
    line = node.start_mark.line + 1
    if id(node) in above:
        raise ValueError(f"line {line} of {file} holds itself by an alias (*): write it out.")
    inner: list[tuple[tuple[str, ...], yaml.Node]] = []
    if isinstance(node, yaml.SequenceNode):
        inner = [((*names, str(place)), each) for place, each in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, here = str(key.value), key.start_mark.line + 1
            inner.append(((*names, name), value))
            if name in seen and name != "<<":
                raise ValueError(
                    f"{name} stands twice in {file}, in lines {seen[name]} and {here}, and the "
                    "first would be lost: keep one."
                )
            seen[name] = here
        wrong = set(seen) - {"class_path", "init_args", "dict_kwargs", "<<"}
        if "class_path" in seen and wrong:
            dotted = ".".join(name for name in (*names, min(wrong)) if name != "init_args")
            raise ValueError(
                f"{dotted} is no option beside class_path (line {seen[min(wrong)]} of {file}): did "
                "you mean init_args, or a key within?"
            )
    for name_of, each in inner:
        _check_node(each, file, name_of, (*above, id(node)))


def _reason(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    said = " ".join(filter(None, (error.context, error.problem)))
    return f"{said}, line {mark.line + 1}, column {mark.column + 1}"


def _classes(name: str, value: Any) -> Iterator[tuple[str, Namespace]]:
    """All parts of a configuration that have a `class_path`, with their dotted names."""
    if isinstance(value, Namespace):
        if isinstance(value.get("class_path"), str):
            yield name, value
        for key, inner in vars(value).items():
            yield from _classes(name if key == "init_args" else f"{name}.{key}", inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _classes(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _classes(f"{name}.{place}", inner)


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _check_arguments(name: str, kind: Any, given: Namespace) -> None:
    try:
        function = kind.__init__ if inspect.isclass(kind) else kind
        hints, known = get_type_hints(function), inspect.signature(kind).parameters
    except (TypeError, NameError, ValueError, AttributeError):  # types that cannot be read
        return
    for argument, value in vars(given).items():
        if value is not None or argument not in hints or argument not in known:
            continue
        if known[argument].default is not None and not _takes_none(hints[argument]):
            raise ValueError(
                f"{name}.{argument} is None but {_name(hints[argument])} is needed: give one, or "
                "leave it out."
            )


def _takes_none(hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_takes_none(inner) for inner in get_args(hint))
    return hint in (Any, None, type(None), object)


def _name(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_name, get_args(hint)))
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "")
