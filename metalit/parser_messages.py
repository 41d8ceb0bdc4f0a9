"""What jsonargparse says about a wrong configuration, in one line of plain words."""

import ast
import difflib
import inspect
import re
from importlib import import_module
from typing import Any, NamedTuple

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from .callbacks import LastCheckpoint

MOST = 15  # options that are listed
SECTIONS = ("model", "data", "trainer", "checkpoint", "last_checkpoint", "predictions", "summary")
OPTIONS = (
    *SECTIONS,
    "allow_changes",
    "ckpt_path",
    "config",
    "print_config",
    "seed_everything",
    "weights_only",
)
CALLABLE = re.compile(r"Type \S.* expects a function or a callable class: ")
MADE = re.compile(r"\.+ Got value: Namespace\((?:class_path='([^']*)')?.*")
NOISE = re.compile(
    r"(Does not validate|Subtypes:|Errors:$|Given value|Expected a path|Subclass types expect|"
    r"a class path \(str\)|a dict |Expected a <class 'NoneType'>$)"
)
SIMPLE = {"int", "float", "str"}
EXPECTED = re.compile(r"Expected an? (.+?)(?:\. Got value: (.*))?$")
NO_CLASS = (  # what jsonargparse and Python say of values where a class is needed
    re.compile(r"Expected a dot import path string: ?(.*)"),
    re.compile(r"Unexpected import path format: ?(.*)"),
    re.compile(r"Not a valid subclass of \w+\. Got value: (.*)"),
    re.compile(r"Expected an import path or a subclass spec, but got (.*?)(?:\. Got value: .*)?$"),
    re.compile(r"Not a valid subclass of \w+()$"),
    re.compile(r"argument of type '\w+' is not iterable()"),
    re.compile(r"unhashable type: '\w+'()"),
    re.compile(r"Dict must include a class_path .* but got (.*)"),
)


class Complaint(NamedTuple):
    """The parts of what jsonargparse says.

    Attributes:
        name: Dotted name of the option.
        target: Import path of the class that the option belongs to, or "".
        reasons: What is wrong with it, in the order of the kinds of value that it may have.
        given: The value, as text, or "".
        types: Types that it may have, where there are several.
    """

    name: str
    target: str
    reasons: list[str]
    given: str
    types: list[str]


def explain_parser(text: str) -> str:
    """Make one line of the many of jsonargparse; other texts only lose their line breaks."""
    complaint = _read(text)
    rules = (_option, _missing, _class, _argument, _type, _rest)
    return next(said for rule in rules if (said := rule(complaint)))


def unknown_option(option: str) -> str:
    """Say that there is no such option, and which one may be meant."""
    first, _, rest = option.lstrip("-").partition(".")
    if first not in OPTIONS:
        similar = difflib.get_close_matches(first, OPTIONS, n=1)
        instead = ".".join(filter(None, [*similar, rest]))
        help_ = "`python -m metalit fit --help` shows all"
        return f"{option} is no option: {f'did you mean {instead}?' if similar else f'{help_}.'}"
    known: dict[str, Any] = {"trainer": Trainer, "checkpoint": ModelCheckpoint}
    known["last_checkpoint"] = LastCheckpoint
    if first in known and rest:
        names = list(inspect.signature(known[first]).parameters)
        return f"{option} is no option: {_hint(rest.partition('.')[0], names, first)}"
    return f"{option} is no option: `python -m metalit fit --help` shows all."


def _read(text: str) -> Complaint:
    """Follow the names from the outermost option to the innermost, by indentation."""
    keys: list[tuple[int, str]] = []
    target, given, types, reasons = "", "", "", list[str]()
    for line in text.splitlines():
        said = CALLABLE.sub("", line.strip().removeprefix("- "))
        depth = len(line) - len(line.lstrip())
        while match := re.match(r'Parser key "(.+?)":\s*(.*)', said):
            if not keys or keys[-1][1] != match[1]:
                keys = [key for key in keys if key[0] < depth] + [(depth, match[1])]
                given = types = ""
            said = CALLABLE.sub("", match[2])
        if match := re.match(r"Problem with given class_path '(.+)':", said):
            target, said = match[1], ""
        if match := MADE.search(said):
            target, said = match[1] or target, said[: match.start()]
        if depth > (keys[-1][0] if keys else 0):
            given = given or _after("Given value:", said)
            types = types or _after("Subtypes:", said)
        if said and not NOISE.match(said):
            reasons.append(said)
    if match := re.match(r"NestedArg\(key='.*?', val=(.*)\)$", given):
        given = match[1].strip("'\"")
    names = [a or b for a, b in re.findall(r"<class '(?:\w+\.)*(\w+)'>|(\w+\[.*?\])", types)]
    found = [name.replace("NoneType", "None") for name in names]
    name = ".".join(key for _, key in keys)
    return Complaint(name, target, list(dict.fromkeys(reasons)), given, found)


def _after(mark: str, said: str) -> str:
    return said.removeprefix(mark).strip() if said.startswith(mark) else ""


def _option(complaint: Complaint) -> str:
    """Options that there are not."""
    name, target, reasons, *_ = complaint
    reason = " ".join(reasons)
    if match := re.search(r"does not accept option '(.+?)'", reason):
        return unknown_option(match[1])
    if match := re.search(r"unrecognized arguments: (\S+)", reason):
        option = match[1].partition("=")[0]
        if not target:
            return unknown_option(option)
        option = option.removeprefix("--")
        return f"{name}.{option} is no option: {_hint_of(target, option)}"
    if match := re.search(r"Option '(.+?)' is not accepted", reason):
        return f"{name}.{match[1]} is no option: {_hint_of(target, match[1])}"
    return ""


def _missing(complaint: Complaint) -> str:
    """Arguments that are needed."""
    match = re.search(r"following arguments are required: (.*)", " ".join(complaint.reasons))
    if not match:
        return ""
    if match[1].endswith(".data"):
        return "there is no data: give it with --config FILE or --data CLASS."
    made = re.match(r"Namespace\(class_path='([^']*)'", complaint.given)
    kind = (made[1] if made else complaint.target).rpartition(".")[2]
    return f"{complaint.name} lacks {match[1]}: give {kind or 'the command'} what it needs."


def _class(complaint: Complaint) -> str:
    """Values that are no class where one is needed."""
    name, _, reasons, given, types = complaint
    for pattern in NO_CLASS:
        for reason in reasons:
            if match := pattern.match(reason):
                if SIMPLE & set(types):  # a text or number serves as well
                    return _other(name, given, types)
                return _no_class(name, match[1].strip() or given, reason)
    return ""


def _no_class(name: str, given: str, reason: str) -> str:
    try:
        value = ast.literal_eval(given)
    except (ValueError, SyntaxError):
        value = given
    if isinstance(value, dict) and "class_path" not in value:
        wrong = difflib.get_close_matches("class_path", map(str, value), n=1)
        if wrong:
            return f"{name}.{wrong[0]} is no option: did you mean class_path?"
        return f"{name} has no class_path: say which class it is, as class_path: NAME."
    if isinstance(value, dict) and not isinstance(value["class_path"], str):
        value = value["class_path"]
    if given == "" and "unhashable" in reason:  # the value is not said
        return f"{name}.class_path is no text: give the name of a class."
    hint = _class_hint(value) if isinstance(value, str) else "give the name of a class"
    return f"{name} is {_short(value)!r}, which is no class that fits there: {hint}."


def _argument(complaint: Complaint) -> str:
    """Arguments of a class that are no mapping, and classes that are not found."""
    name, target, reasons, *_ = complaint
    reason = " ".join(reasons)
    if re.search(r"'\w+' object has no attribute '(keys|items)'", reason):
        return (
            f"{name}.init_args has no names: give {target.rpartition('.')[2] or 'the class'} its "
            "arguments as init_args: {NAME: VALUE}."
        )
    if match := re.search(r"No module named '(.+?)'", reason):
        return (
            f"{name or 'a class'} needs the module {match[1]!r}, which cannot be found: correct "
            "the class_path, or start in the folder that holds the module."
        )
    if match := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", reason):
        similar = difflib.get_close_matches(match[2], dir(import_module(match[1])), n=1)
        hint = f"did you mean {match[1]}.{similar[0]}?" if similar else "correct the class_path."
        return f"{name}: {match[0]}: {hint}"
    if match := re.search(r"Expected '(.+?)' to be a subclass of <class '(\w+)'>", reason):
        return f"{name} is {match[1]!r}, which is no {match[2]}: correct the class_path."
    if match := re.search("Expected an instantiatable class, but (.*) is abstract", reason):
        return f"{name} names no class but the kind {match[1]}: say which one, as class_path: NAME."
    if re.search("does not correspond to a subclass", reason):
        return f"{name}: {reason.rstrip('.')}: correct the class_path."
    return ""


def _type(complaint: Complaint) -> str:
    """Values of another type."""
    name, _, reasons, given, types = complaint
    if SIMPLE & set(types) and any(EXPECTED.match(reason) for reason in reasons):
        return _other(name, given, types)
    matches = [match for reason in reasons if (match := EXPECTED.match(reason))]
    if not name or not matches or len(matches) < len(reasons):
        return ""
    value = next((match[2] for match in matches if match[2] is not None), given)
    return _other(name, value, [_plain(match[1]) for match in matches])


def _other(name: str, given: str, types: list[str]) -> str:
    return f"{name} is {_short(given)!r} but {' or '.join(types)} is needed: correct it."


def _rest(complaint: Complaint) -> str:
    """All that has a name of its own, and what has none."""
    name, _, reasons, given, _ = complaint
    reason = " ".join(reasons)
    if match := re.search(r"File does not exist: '(.+?)'", reason):
        return f"--{name} names {match[1]}, which does not exist: correct the path."
    if match := re.search(r"argument subcommand: invalid choice: '(.+?)'", reason):
        return f"there is no command {match[1]!r}: choose fit, validate, test or predict."
    if match := re.search(r"monitor='(.+?)'\)` could not find .* metrics: \[(.*?)\]", reason):
        logged = match[2].replace("'", "")
        return f"checkpoint.monitor is {match[1]!r} but the run logs {logged}: choose one of these."
    if match := re.search(r"Problems parsing config: (.*)", reason):
        return f"the configuration is no YAML ({match[1]}): correct it."
    if match := re.search(r"Unable to load config ['\"](.*?)['\"]", reason):
        return f"{name} is {match[1]!r} but names with values are needed: give --{name}.NAME VALUE."
    if match := re.match(r"Unexpected config: (.*)", reason):
        return (
            f"the configuration is {_short(match[1])!r} but sections such as model, data and "
            "trainer are needed: give a file that has them."
        )
    if reasons == [] and name:
        return f"{name} is {_short(given)!r}, which does not fit: correct it."
    return f"{name}: {reason}" if name else reason or "nothing is said about it."


def _plain(needed: str) -> str:
    """Name a type as a user would: <class 'collections.abc.Sequence'> becomes Sequence."""
    if match := re.match(r"<class '(?:\w+\.)*(\w+)'>", needed):
        return match[1].replace("NoneType", "None")
    return needed.replace("typing.Literal", "one of ").removeprefix("a ")


def _short(value: object) -> object:
    text = str(value)
    return value if len(text) <= 60 else f"{text[:57]}..."


def _hint_of(target: str, given: str) -> str:
    """Return what a class takes instead of an option."""
    kind = target.rpartition(".")[2]
    first = given.partition(".")[0]
    keys = difflib.get_close_matches(first, ["class_path", "init_args"], n=1)
    known = _arguments(target)
    if set(known) <= {"args", "kwargs"}:  # a base class, since no class was named
        return f"did you mean {keys[0]}?" if keys else "say which class it is, as class_path: NAME."
    similar = difflib.get_close_matches(first, known, n=1)
    if keys and not similar:
        return f"did you mean {keys[0]}?"
    return _hint(first, known, kind)


def _hint(given: str, known: list[str], kind: str) -> str:
    """Return the most similar of the known names, or all of them if they are not many."""
    similar = difflib.get_close_matches(given, known, n=1)
    if similar:
        return f"did you mean {similar[0]}?"
    if len(known) > MOST:
        return "`python -m metalit fit --help` shows all."
    return f"{kind} takes {', '.join(known) or 'none'}"


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
    known += ["metalit.loggers.CSV", "metalit.loggers.WandB"]  # whose full path is needed
    names = {path.rpartition(".")[2]: path for path in known}
    similar = [names[name] for name in difflib.get_close_matches(given, names, n=1)]
    hint = f"did you mean {similar[0]}, or " if similar and similar[0] != given else ""
    name = given.rpartition(".")[2]
    return f"{hint}give a full path such as mine.{name if name.isidentifier() else 'Network'}"


def _arguments(target: str) -> list[str]:
    """Return the names of the arguments of a class, by its import path."""
    module, _, name = target.rpartition(".")
    found: Any = getattr(import_module(module), name)
    try:
        return list(inspect.signature(found).parameters)
    except ValueError:  # as of torch.Tensor, which is built in
        return []
