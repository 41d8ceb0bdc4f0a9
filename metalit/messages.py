"""What the command line says: errors in one line, and nothing that is not for the user."""

import difflib
import inspect
import logging
import re
import sys
import warnings
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentError
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core import rank_zero

EXPECTED = (ArgumentError, ValueError, TypeError, OSError, MisconfigurationException, ImportError)
NOISE = re.compile(
    r"(Does not validate|Subtypes:|Errors:$|Given value|Expected a path|"
    r"Expected a <class 'NoneType'>$)"
)


def explain(error: BaseException) -> str:
    """Return one line that says what was given, what is needed and what to do."""
    text = str(error).strip()
    if "DataLoader worker process" in text:  # the message is the last line of a traceback
        text = text.splitlines()[-1].partition(": ")[2]
    if "Error(s) in loading state_dict" in text:
        lines = [line.strip().rstrip(".") for line in text.splitlines()[1:]] or [text]
        return (
            f"the checkpoint does not fit the model ({lines[0]}): use the model it was made with."
        )
    said = _explain_parser(text)
    if isinstance(error, EXPECTED) and said:
        return said
    return f"{type(error).__name__}: {said} (METALIT_DEBUG=1 shows where)"


def _explain_parser(text: str) -> str:
    """Make one line of the many of jsonargparse; anything else only loses its line breaks."""
    subtypes = " or ".join(re.findall(r"<class '(?:\w+\.)*(\w+)'>", _after("Subtypes:", text)))
    subtypes = subtypes.replace("NoneType", "None")
    given = _after("Given value:", text)
    keys: list[tuple[int, str]] = []
    target, reasons = "", []
    for line in text.splitlines():
        said = line.strip().removeprefix("- ")
        depth = len(line) - len(line.lstrip())
        if match := re.match(r'Parser key "(.+?)":\s*(.*)', said):
            keys = [key for key in keys if key[0] < depth] + [(depth, match[1])]
            said = match[2]
        elif match := re.match(r"Problem with given class_path '(.+)':", said):
            target, said = match[1], ""
        if said and not NOISE.match(said):
            reasons.append(said)
    name = ".".join(key for _, key in keys)
    if keys and keys[-1][0] == 0 and all(r.startswith("Expected a <class") for r in reasons):
        return f"{name} is {given!r} but {subtypes or 'another type'} is needed: correct it."
    return _explain_reason(name, target, reasons, given)


def _explain_reason(name: str, target: str, reasons: list[str], given: str) -> str:
    reason = " ".join(dict.fromkeys(reasons))
    kind = target.rpartition(".")[2]
    if match := re.search(r"Option '(.+?)' is not accepted", reason):
        known = _arguments(target)
        return f"{name}.{match[1]} is no option: {_hint(match[1], known, kind)}"
    if match := re.search(r"Expected a <class '(?:\w+\.)*(\w+)'>\. Got value: (.*)", reason):
        return f"{name} is {match[2]!r} but {match[1]} is needed: correct it."
    if match := re.search(r"following arguments are required: (.*)", reason):
        if match[1].endswith(".data"):
            return "there is no data: give it with --config FILE or --data CLASS."
        return f"{name} lacks {match[1]}: give {kind or 'the command'} what it needs."
    if match := re.search(r"Expected a dot import path string: (\S+)", reason):
        return (
            f"{name} is {match[1]!r}, which is no class that fits there: {_class_hint(match[1])}."
        )
    if match := re.search(r"No module named '(.+?)'", reason):
        return (
            f"{name or 'a class'} needs the module {match[1]!r}, which cannot be found: correct "
            "the class_path, or start in the folder that holds the module."
        )
    if match := re.search(r"does not accept option '(.+?)'", reason):
        return _unknown_option(match[1])
    if match := re.search(r"unrecognized arguments: (.*)", reason):
        return _unknown_option(match[1].split()[0].partition("=")[0])
    if match := re.search(r"File does not exist: '(.+?)'", reason):
        return f"--{name} names {match[1]}, which does not exist: correct the path."
    if match := re.search(r"argument subcommand: invalid choice: '(.+?)'", reason):
        return f"there is no command {match[1]!r}: choose fit, validate, test or predict."
    if match := re.search(r"monitor='(.+?)'\)` could not find .* metrics: \[(.*?)\]", reason):
        logged = match[2].replace("'", "")
        return f"checkpoint.monitor is {match[1]!r} but the run logs {logged}: choose one of these."
    if re.search("does not correspond to a subclass|has no attribute", reason):
        return f"{name}: {reason.strip()}: correct the class_path."
    if match := re.search(r"Problems parsing config: (.*)", reason):
        return f"the configuration is no YAML ({match[1]}): correct it."
    return f"{name}: {reason}" if name else reason


def _unknown_option(option: str) -> str:
    first, _, rest = option.lstrip("-").partition(".")
    if first == "trainer" and rest:
        known = list(inspect.signature(Trainer).parameters)
        return f"{option} is no option: {_hint(rest, known, 'the trainer')}"
    return f"{option} is no option: `python -m metalit fit --help` shows all."


def _hint(given: str, known: list[str], kind: str) -> str:
    """Return the most similar of the known names, or all of them."""
    similar = difflib.get_close_matches(given, known, n=1)
    return (
        f"did you mean {similar[0]}?" if similar else f"{kind} takes {', '.join(known) or 'none'}"
    )


def _class_hint(given: str) -> str:
    parts = (
        "augmentations callbacks data datasets inner_loops learners losses metrics networks tasks"
    )
    known = [
        n
        for part in parts.split()
        for n in import_module(f"metalit.{part}").__all__
        if n[0].isupper()
    ]
    similar = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {similar[0]}, or " if similar and similar[0] != given else ""
    return f"{hint}give a full path such as mine.{given.rpartition('.')[2]}"


def _arguments(target: str) -> list[str]:
    """Return the names of the arguments of a class, by its import path."""
    module, _, name = target.rpartition(".")
    found: Any = getattr(import_module(module), name)
    return list(inspect.signature(found).parameters)


def _after(mark: str, text: str) -> str:
    return next((line.split(mark, 1)[1].strip() for line in text.splitlines() if mark in line), "")


class Terminal(logging.Handler):
    """Writes plain lines to whatever `sys.stdout` is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        sys.stdout.write(f"{self.format(record)}\n")
        sys.stdout.flush()


def show_log() -> None:
    """Show metalit's messages on the terminal, once, as plain lines."""
    logger = logging.getLogger("metalit")
    if not logger.handlers:
        logger.addHandler(Terminal())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def calm() -> None:
    """Silence exactly what would mislead a newcomer."""
    silenced = [
        # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
        ".*LeafSpec.* is deprecated",
        # it is: a run that goes on has checkpoints
        "Checkpoint directory .* exists and is not empty",
        # EpisodeDataModule starts its loaders at the right episode without a state of their own
        "You're resuming from a checkpoint that ended before the epoch ended",
    ]
    for message in silenced:
        warnings.filterwarnings("ignore", message)
    rank_zero.log.addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """Let all pass but Lightning's tips to install its own paid services."""
    return "Tip: For seamless cloud" not in str(record.msg)
