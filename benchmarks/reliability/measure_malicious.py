"""Opens checkpoints that try to run code through every door: none of them succeeds.

Each one leaves a mark where its code runs. It must end in one line, or do no harm. As a control,
each one is opened once more with the guards taken away; those that run then are called armed.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from forked import Outcome, run_forked
from malicious_checkpoints import MARK, write_all
from report import Measurement, print_rows
from small_run import make_run

LIMIT = 120  # seconds of one case


def main(argv: Sequence[str]) -> int:
    """Run all cases."""
    measurement = Measurement("malicious", __doc__, 1000)
    options = measurement.parse(argv)
    with tempfile.TemporaryDirectory() as name:
        good = make_run(Path(name) / "run")
        folder = good.parents[3]
        attacks = dict(list(write_all(folder, good).items())[: options.count])
        config = yaml.safe_load((folder / "config.yaml").read_text())
        del config["model"]
        (folder / "data.yaml").write_text(yaml.safe_dump(config))
        (folder / "query.csv").write_text("a,b\n0.5,1\n1,2\n")
        (folder / "support.csv").write_text("a,b,label\n0.5,1,0\n1,2,1\n")
        cells = [
            {"attack": attack, **open_all(folder, file, environment)}
            for attack, (file, environment) in attacks.items()
        ]
    for cell in cells:
        if cell["executed"] or cell["unclear"]:
            print(cell)
    table = [["executed", "unclear", "armed", "attacks", "doors"]]
    counts = [sum(bool(cell[key]) for cell in cells) for key in table[0][:3]]
    print_rows([*table, [*counts, len(cells), len(DOORS)]])
    unclear = sum(len(cell["unclear"]) for cell in cells)
    executed = sum(len(cell["executed"]) for cell in cells)
    return measurement.write({"doors": list(DOORS), "attacks": cells}, executed + unclear)


def command(*words: str) -> Callable[[str], object]:
    """Return what opens a checkpoint by the command line."""

    def call(file: str) -> None:
        from metalit.__main__ import run

        sys.argv = ["metalit", *words, "--ckpt_path", file]
        run()

    return call


def load_model(file: str) -> object:
    from metalit import MetaLearner

    return MetaLearner.load_from_checkpoint(file)


def load_encoder(file: str) -> object:
    from metalit.networks import PretrainedEncoder

    return PretrainedEncoder(file, "learner.network")


def load_detector(file: str) -> object:
    import numpy as np

    from metalit.estimators import MetaDetector

    return MetaDetector(weights=file).fit(np.zeros((20, 2)))


CONFIG = ("--config", "config.yaml")
DATA = ("--config", "data.yaml")
TABLES = ("--data", "SupportQuery", "--data.support", "support.csv", "--data.query", "query.csv")
DOORS: dict[str, Callable[[str], object]] = {
    "test": command("test", *DATA),
    "test with a config": command("test", *CONFIG),
    "fit": command("fit", *DATA, "--trainer.max_epochs", "3"),
    "fit with a config": command("fit", *CONFIG, "--trainer.max_epochs", "3"),
    "predict": command("predict", *TABLES),
    "MetaLearner": load_model,
    "PretrainedEncoder": load_encoder,
    "MetaDetector": load_detector,
}

CONTROLS = ("test", "MetaLearner")


def open_all(folder: Path, file: str, environment: dict[str, str]) -> dict[str, list[str]]:
    """Open a checkpoint through every door, in a process of its own each.

    Returns:
        The doors through which it ran code; those at which it ended in anything but one line of
        the reason, nor well; and those through which it runs code without our guards.
    """
    found: dict[str, list[str]] = {"executed": [], "unclear": [], "armed": []}
    for door, enter in DOORS.items():
        done = run_forked(lambda e=enter: _enter(e, file, environment), folder, LIMIT)
        if _take_mark(folder):
            found["executed"].append(door)
        if not _is_clear(done):
            found["unclear"].append(f"{door}: {(done.complained or done.said)[-200:]}")
        if door in CONTROLS and not found["armed"]:
            run_forked(lambda e=enter: _enter(e, file, environment, False), folder, LIMIT)
            if _take_mark(folder):
                found["armed"].append(door)
    return found


def _take_mark(folder: Path) -> bool:
    mark = folder / MARK
    if mark.exists():
        mark.unlink()
        return True
    return False


def _is_clear(done: Outcome) -> bool:
    if done.code == 0:
        return True
    last = done.complained.strip().splitlines()[-1:]
    return done.code == 2 and "Traceback" not in done.complained and "error: " in "".join(last)


def _enter(
    door: Callable[[str], object], file: str, environment: dict[str, str], guarded: bool = True
) -> None:
    os.environ.update(environment)
    sys.path.insert(0, "")  # as `python -m` and notebooks do
    if not guarded:
        _take_guards_away()
    try:
        door(file)
    except (ValueError, TypeError) as error:  # as the command line says it
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)


def _take_guards_away() -> None:
    """Let the child be as if nobody had thought of safety."""
    import torch

    from metalit import main, meta_learner
    from metalit.checkpoints import files

    def load(source: object, map_location: object = "cpu", weights_only: bool = False) -> object:
        return original(source, map_location=map_location, weights_only=False)

    original, torch.load = torch.load, load
    for module in (main, meta_learner):
        module.refuse_foreign_code = lambda *_: None
    files.refuse_forced_unpickling = lambda: None
    files._check = lambda _: None
