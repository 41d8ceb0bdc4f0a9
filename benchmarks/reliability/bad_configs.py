"""Configurations with one thing wrong, drawn at random from good ones."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import yaml
from good_configs import Base
from numpy.random import Generator

CLASSES = (
    "MLP",
    "MAML",
    "Prototypes",
    "GradientDescent",
    "SinusoidTasks",
    "LabelTasks",
    "Accuracy",
    "Digits",
    "Arrays",
    "Affine",
    "MetaLearner",
    "EpisodeDataModule",
    "CSV",
    "torch.optim.Adam",
    "torch.nn.MSELoss",
    "torch.nn.Linear",
    "sklearn.cluster.KMeans",
    "sklearn.svm.SVC",
    "torch.optim.lr_scheduler.StepLR",
    "collections.OrderedDict",
    "os.getcwd",
    "metalit",
    "metalit.learners.maml",
    "nowhere.Net",
    ".MLP",
    "MLP()",
    "3",
    "torch",
    "torch.nn.Modul",
)
VALUES: tuple[Any, ...] = (
    *("", "many", "five", None, True, False, [], [1, 2], {}, {"a": 1}, {"class_path": "MLP"}),
    *(-1, -7, 0, 0.5, -0.5, 1e30, 10**6, 2**63, float("nan"), float("inf"), "1", "0.1", "[1"),
)
COUNTS = ("num_workers", "devices", "num_nodes")  # a large one would start so many processes
SETTINGS: tuple[tuple[str, Any], ...] = (
    *(("trainer.accelerator", value) for value in ("gpu", "cuda", "tpu", "mps", "none", 3, "CPU")),
    *(("trainer.strategy", value) for value in ("fsdp", "deepspeed", "dpp", "", "ddp_spawnn", 2)),
    *(("trainer.precision", v) for v in ("64-tru", "half", 17, "bf16-mixd", "fp8")),
    *(("trainer.devices", value) for value in (0, -2, "many", "0,x", [], 1.5, 3)),
    *(("trainer.logger", v) for v in ("CSVV", "metalit.loggers.Wandb", ["CSV", 3], "MLP")),
    *(("trainer.callbacks", v) for v in ("AdaptionReport", ["MLP"], [3], {"class_path": "X"})),
    *(("trainer.profiler", "deep"), ("trainer.gradient_clip_algorithm", "mean")),
    *(("trainer.val_check_interval", v) for v in (0, -1, 1.5, 10**6, "often")),
    *(("trainer.limit_train_batches", v) for v in (-1, 1.5, "all", 0)),
    *(("trainer.accumulate_grad_batches", v) for v in (0, -2, 1.5)),
    *(("trainer.max_time", v) for v in ("soon", "99", {"hour": 1})),
    *(("trainer.default_root_dir", v) for v in ("binary.csv", "/proc/nothing", "", "/dev/null/a")),
    *(("trainer.detect_anomaly", "maybe"), ("trainer.num_sanity_val_steps", -5)),
    *(("trainer.check_val_every_n_epoch", v) for v in (0, -1, 1.5)),
    *(("trainer.max_epochs", v) for v in (-3, "x")),
    *(("trainer.gradient_clip_val", v) for v in (-1, "a", float("nan"))),
    *(("checkpoint.monitor", v) for v in ("val/los", 3, "", None)),
    *(("checkpoint.mode", v) for v in ("smallest", None)),
    *(("checkpoint.save_top_k", v) for v in (-2, "two")),
    *(("checkpoint.dirpath", v) for v in ("binary.csv", "/proc/no")),
    *(("checkpoint.every_n_epochs", v) for v in (0, -1)),
    *(("checkpoint.filename", v) for v in (3, "{val/x:q}", "a/b/{")),
    *(("last_checkpoint.monitor", "x"), ("last_checkpoint.every_n_train_steps", -1)),
    *(("predictions.file", v) for v in ("a.xls", "nowhere/a.csv", "", 3)),
    *(("seed_everything", v) for v in (-1, 2**40, "x", None, 1.5)),
    *(("ckpt_path", v) for v in ("last", "best", "x.ckpt", "binary.csv", "empty.csv", ".", 3)),
    *(("model.learner", v) for v in ("MAML", "Prototypes", "ACR", "SklearnClassifier")),
    *(("model.optimizer", v) for v in ("torch.optim.Adamm", "torch.optim.Optimizer", "MLP", 3)),
    *(("model.optimizer.lr", v) for v in ("fast", -1, float("nan"), None)),
    *(("model.lr_scheduler", v) for v in ("torch.optim.lr_scheduler.StepLR", "MLP", "x")),
    *(("model.chunk", v) for v in (0, -1, 1.5)),
    *(("model.seed", v) for v in (-1, 2**70, 1.5)),
    *(("model.tasks", "batch"), ("model.compiled", "maybe"), ("model.loss", "torch.nn.Linear")),
    *(("model.loss", v) for v in ("torch.nn.BCELoss", "torch.nn.NLLLoss", "torch.nn.CTCLoss")),
    *(("data.seed", v) for v in (-1, 2**70, 1.5)),
    *(("data.num_workers", v) for v in (-1, "two", 0.5)),
    *(("data.meta_batch_size", v) for v in (0, -2, 7, "x")),
    *(("data.episodes_per_epoch", v) for v in (0, -4, 5)),
    *(("data.val_episodes", v) for v in (0, -4)),
    *(("data.dataset", v) for v in ("Arrays", "Omniglot", "ImageFolder", "Digit", "MLP")),
)
FILES = ("absent.csv", "empty.csv", "binary.csv", "text.csv", "names.csv", ".", "a\0b", "x" * 300)


class Case(NamedTuple):
    """One wrong configuration.

    Attributes:
        base: Name of the good one.
        kind: What was done to it.
        what: Where, and with which value, for people to read.
        config: Content of the file.
        options: Arguments after the file.
        names: Words of which the error must have one; none where the error may be elsewhere.
    """

    base: str
    kind: str
    what: str
    config: bytes
    options: list[str]
    names: tuple[str, ...] = ()


def draw_case(random: Generator, known: list[Base]) -> Case:
    """Draw a good configuration and make one thing wrong."""
    base = known[int(random.integers(len(known)))]
    kinds, shares = list(KINDS), np.array(list(KINDS.values()))
    kind = kinds[int(random.choice(len(kinds), p=shares / shares.sum()))]
    return kind(random, base)


def _places(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """All paths in a configuration, outer ones first."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def _at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(key) for key in path if key != "init_args")


def _pick(random: Generator, options: Any) -> Any:
    known = list(options)
    return known[int(random.integers(len(known)))]


def _misspell(random: Generator, word: str) -> str:
    """Drop, double or swap a letter."""
    place = int(random.integers(max(1, len(word) - 1)))
    how = int(random.integers(3))
    if how == 0 and len(word) > 3:
        return word[:place] + word[place + 1 :]
    if how == 1 and word[place : place + 1] != word[place + 1 : place + 2]:
        return word[:place] + word[place : place + 2][::-1] + word[place + 2 :]
    return word[:place] + word[place : place + 1] * 2 + word[place + 1 :]


def _finish(base: Base, kind: str, what: str, tree: Any, names: tuple[str, ...] = ()) -> Case:
    text = yaml.safe_dump(tree, sort_keys=False)
    return Case(base.name, kind, what, text.encode(), base.options, names)


def delete_key(random: Generator, base: Base) -> Case:
    tree = copy.deepcopy(yaml.safe_load(base.text))
    path = _pick(random, _places(tree))
    del _at(tree, path[:-1])[path[-1]]
    return _finish(base, "key deleted", _dotted(path), tree)


def misspell_key(random: Generator, base: Base) -> Case:
    tree = copy.deepcopy(yaml.safe_load(base.text))
    path = _pick(random, (p for p in _places(tree) if isinstance(p[-1], str)))
    inside, wrong = _at(tree, path[:-1]), _misspell(random, str(path[-1]))
    inside[wrong] = inside.pop(path[-1])
    return _finish(base, "key misspelt", f"{_dotted(path)} -> {wrong}", tree, (wrong,))


def wrong_value(random: Generator, base: Base) -> Case:
    tree = copy.deepcopy(yaml.safe_load(base.text))
    path, value = _pick(random, _places(tree)), _pick(random, VALUES)
    if path[-1] in COUNTS and value == 10**6:
        value = -3
    _at(tree, path[:-1])[path[-1]] = value
    return _finish(base, "wrong value", f"{_dotted(path)}: {value!r}", tree, _names(path, value))


def wrong_class(random: Generator, base: Base) -> Case:
    tree = copy.deepcopy(yaml.safe_load(base.text))
    path = _pick(random, (p for p in _places(tree) if p[-1] == "class_path"))
    now = _at(tree, path)
    new = _misspell(random, now) if random.random() < 0.4 else _pick(random, CLASSES)
    _at(tree, path[:-1])["class_path"] = new
    names = (new, new.rpartition(".")[2], *_names(path[:-1], None))
    return _finish(base, "wrong class", f"{_dotted(path)}: {now} -> {new}", tree, names)


def wrong_file(random: Generator, base: Base) -> Case:
    tree = copy.deepcopy(yaml.safe_load(base.text))
    file = _pick(random, FILES)
    if random.random() < 0.5:
        name = _pick(random, ("Arrays", "ImageFolder", "Omniglot"))
        argument = {"path": file} if name == "Arrays" else {"root": file}
        if name == "ImageFolder":
            argument["image_size"] = 28
        tree["data"]["init_args"]["dataset"] = {"class_path": name, "init_args": argument}
        names = (file[:20], "dataset", "data.", "samples", "root", "path", "classes", "rows")
        return _finish(base, "wrong file", f"{name} {file[:20]!r}", tree, names)
    options = ["--config", file]
    case = _finish(base, "wrong file", f"--config {file[:20]!r}", tree, (file[:20], "config"))
    return case._replace(options=[*base.options, *options] if "\0" not in file else base.options)


def wrong_size(random: Generator, base: Base) -> Case:
    tree = copy.deepcopy(yaml.safe_load(base.text))
    numbers = [
        p
        for p in _places(tree)
        if type(_at(tree, p)) in (int, float) and p[-1] not in COUNTS and "trainer" not in p
    ]
    path = _pick(random, numbers)
    now = _at(tree, path)
    value = _pick(random, (now + 1, now - 1, 0, 1, 2 * now, -now, now + 0.5))
    _at(tree, path[:-1])[path[-1]] = value
    return _finish(base, "wrong size", f"{_dotted(path)}: {now} -> {value}", tree)


def wrong_setting(random: Generator, base: Base) -> Case:
    tree = copy.deepcopy(yaml.safe_load(base.text))
    name, value = _pick(random, SETTINGS)
    inside, parts = tree, name.split(".")
    for place, key in enumerate(parts[:-1]):
        inside = inside.setdefault(key, {}) if isinstance(inside.get(key, {}), dict) else inside
        if (key in ("model", "data") and place == 0) or key == "optimizer":
            inside = inside.setdefault("init_args", {})
    inside[parts[-1]] = value
    elsewhere = name in ("data.dataset", "model.loss")  # which may be wrong only with the others
    names = () if elsewhere else _names((name,), value)
    return _finish(base, "wrong setting", f"{name}: {value!r}", tree, names)


def wrong_option(random: Generator, base: Base) -> Case:
    tree = yaml.safe_load(base.text)
    if random.random() < 0.5:
        option, value = _pick(random, SETTINGS)
    else:
        option, value = _dotted(_pick(random, _places(tree))), _pick(random, VALUES)
        if option.rpartition(".")[2] in COUNTS and value == 10**6:
            value = -3
    if random.random() < 0.2:
        option = _misspell(random, option)
    given = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)
    given = given.removesuffix("\n").removesuffix("\n...")
    options = [*base.options, f"--{option}={given}" if random.random() < 0.5 else f"--{option}"]
    if "=" not in options[-1]:
        options.append(given)
    what = f"--{option} {given}"
    names = () if option in ("data.dataset", "model.loss") else _names((option,), value)
    return Case(base.name, "wrong option", what, base.text.encode(), options, names)


def broken_text(random: Generator, base: Base) -> Case:
    lines = base.text.splitlines()
    place = int(random.integers(1, len(lines)))
    changed = {
        "truncated": base.text[: int(random.integers(1, len(base.text)))],
        "indented": "\n".join([*lines[:place], f"   {lines[place]}", *lines[place + 1 :]]),
        "outdented": "\n".join([*lines[:place], lines[place].lstrip(), *lines[place + 1 :]]),
        "a tab": "\n".join([*lines[:place], f"\t{lines[place]}", *lines[place + 1 :]]),
        "a line lost": "\n".join([*lines[:place], *lines[place + 1 :]]),
        "a list": "\n".join(f"- {line}" for line in lines),
        "twice": f"{base.text}\n{base.text}",
        "two documents": f"{base.text}\n---\n{base.text}",
        "a section twice": f"{base.text}\nmodel: {{}}\n",
        "an unknown section": f"{base.text}\nmodels: {{a: 1}}\n",
        "a text": "hello",
        "an executable tag": f"{base.text}\nx: !!python/object/apply:os.getcwd []\n",
        "an unknown anchor": f"{base.text}\nx: *nothing\n",
        "itself": f"{base.text}\nx: &x {{y: *x}}\n",
        "a number": "3",
    }
    kind = _pick(random, [*changed, "bytes", "BOM", "UTF-16", "zeros"])
    coded = {
        "bytes": base.text.encode()[:place] + b"\xff\xfe\x80" + base.text.encode()[place:],
        "BOM": b"\xef\xbb\xbf" + base.text.encode(),
        "UTF-16": base.text.encode("utf-16"),
        "zeros": bytes(50),
    }
    content = coded[kind] if kind in coded else changed[kind].encode()
    return Case(base.name, "broken text", kind, content, base.options)


def _names(path: tuple[str | int, ...], value: Any) -> tuple[str, ...]:
    """Words of which one must be in the error: the option, its last part, or the value."""
    keys = [str(key) for key in path if key not in ("init_args", "class_path")]
    last = ".".join(keys).rpartition(".")[2]
    parts = [part for part in keys if not part.isdigit()]
    above = parts[-1] if parts else last
    # an entry of a mapping of learners has no name that the parser would say
    above = "learners" if "learners" in ".".join(keys).split(".")[-2:] else above
    said = [] if value is None or value == "" else [str(value).strip("[]{}")[:30]]
    return tuple(word for word in (last, above, *said) if word)


KINDS: dict[Callable[[Generator, Base], Case], float] = {
    delete_key: 2,
    misspell_key: 2,
    wrong_value: 4,
    wrong_class: 2,
    wrong_file: 1,
    wrong_size: 3,
    wrong_setting: 2,
    wrong_option: 3,
    broken_text: 2,
}
"""What may be wrong, with weights."""
