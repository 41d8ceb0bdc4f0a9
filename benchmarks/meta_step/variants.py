"""Which contenders run: the peers that are installed, and ours with the options asked for."""

import argparse
from collections.abc import Sequence
from typing import Any

import yaml

from .contenders import CONTENDERS, OURS, Make, load, missing_package


def add_arguments(
    parser: argparse.ArgumentParser, contenders: Sequence[str] = tuple(CONTENDERS)
) -> None:
    parser.add_argument(
        "--contenders",
        nargs="+",
        default=list(contenders),
        choices=CONTENDERS,
        metavar="NAME",
        help="; ".join(CONTENDERS),
    )
    add_options(parser)
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="'TITLE: NAME=VALUE inner.NAME=VALUE'",
        help="one more of ours beside the first, with arguments of its own; may be repeated",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those that all of ours share."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further argument of MetaLearner, as YAML; may be repeated",
    )
    parser.add_argument(
        "--inner",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a further argument of GradientDescent, as YAML; may be repeated",
    )


def shared(options: argparse.Namespace) -> list[str]:
    """Return the arguments of all of ours, as `ours` takes them."""
    return [*options.option, *(f"inner.{pair}" for pair in options.inner)]


def chosen(options: argparse.Namespace) -> dict[str, Make]:
    """Return what makes each contender, by title, and say which are left out."""
    makers: dict[str, Make] = {}
    for name in options.contenders:
        missing = missing_package(name)
        if missing:
            print(f"{name} is left out: {missing} is not installed")
        elif name == OURS:
            makers[name] = ours(shared(options))
        else:
            makers[name] = load(name)
    for variant in options.variant:
        title, _, pairs = variant.partition(":")
        makers[f"{OURS}, {title}"] = ours([*shared(options), *pairs.split()])
    return makers


def ours(pairs: list[str]) -> Make:
    """Return what makes ours with arguments such as `tasks=loop` or `inner.memory=steps`."""
    model: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SystemExit(f"option {pair!r} has no value: write NAME=VALUE.")
        of_inner = name.startswith("inner.")
        (inner if of_inner else model)[name.removeprefix("inner.")] = yaml.safe_load(value)
    return load(OURS, model_options=model, inner_options=inner)
