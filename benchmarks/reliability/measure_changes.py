"""Resumes runs with one value of the configuration changed: nothing changes in silence.

A run is stopped in the middle of an epoch, and gone on with by `fit --ckpt_path last` as often as
its full configuration has values, one of them changed each time. A change must be listed or
refused; one of the model or of the episodes must be refused, and go on with `--allow_changes
true`; and what was typed is what the run then has, wherever an attribute says so. Then classes
are exchanged, and the data file is altered.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from changed_values import (
    CHOSEN_BY_RUN,
    CLASSES,
    CONFIGS,
    DATA_CHANGES,
    Place,
    candidates,
    changed,
    dotted,
    leaves,
    look_up,
    must_be_refused,
)
from forked import Outcome, run_forked
from report import Measurement, print_rows
from small_run import write_files

LIMIT = 60  # seconds of one case
STOP = 5  # steps after which the first run is stopped, in the middle of its second epoch
HAS = "the run has "


def main(argv: Sequence[str]) -> int:
    """Run all cases."""
    measurement = Measurement("changes", __doc__, 1000)
    options = measurement.parse(argv)
    from metalit.main import main as warm  # noqa: F401 - so that children need not import it

    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        seen: set[str] = set()
        for title, config in CONFIGS.items():
            run = Path(name) / title
            full = start(run, config)
            cases.append(resume(run, full, None, None))
            for place in leaves(full):
                if dotted(place, lists=True) not in seen and len(cases) < options.count:
                    seen.add(dotted(place, lists=True))
                    cases.append(change_one(run, full, place))
            for place, value in CLASSES.get(title, []):
                cases.append(resume(run, changed(full, place, value), place, value))
            if title == next(iter(CONFIGS)):
                cases += [resume_with_data(run, full, change) for change in DATA_CHANGES]
    for case in cases:
        if case["broken"]:
            print(case)
    counts = Counter(case["outcome"] for case in cases)
    watched = sum(case.get("has", "unknown") != "unknown" for case in cases)
    print_rows([["changes", *counts, "looked up"], [len(cases), *counts.values(), watched]])
    broken = sum(bool(case["broken"]) for case in cases)
    return measurement.write({"counts": {**counts, "looked up": watched}, "cases": cases}, broken)


def start(run: Path, config: str) -> dict[str, Any]:
    """Start a run, stop it, and return its full configuration."""
    write_files(run, config)
    done = run_forked(_begin, run, LIMIT)
    if done.code != 143:
        raise RuntimeError(f"exit code {done.code}: {done.said}{done.complained}")
    full: dict[str, Any] = yaml.safe_load((run / "runs/version_0/config.yaml").read_text())
    return full


def change_one(run: Path, full: dict[str, Any], place: Place) -> dict[str, Any]:
    """Resume with the first other value that the parser takes for a leaf."""
    case: dict[str, Any] = {}
    for value in candidates(place, look_up(full, place)):
        case = resume(run, changed(full, place, value), place, value)
        if case["outcome"] != "no value":
            return case
    return case | {"name": dotted(place), "outcome": "no value", "broken": ""}


def resume(run: Path, config: dict[str, Any], place: Place | None, value: Any) -> dict[str, Any]:
    """Resume with a changed configuration, and judge what comes of it."""
    done = resume_forked(run, config, place)
    case: dict[str, Any] = {"name": dotted(place) if place else "nothing", "value": value}
    listed = [line for line in done.said.splitlines() if "in the checkpoint and" in line]
    last = (done.complained.strip().splitlines() or [""])[-1]
    if place is None:
        fine = done.code == 0 and not listed
        return {**case, "outcome": "goes on", "broken": "" if fine else f"{listed} {last}"}
    if not listed and done.code == 2:
        return {**case, "outcome": "no value", "said": last, "broken": ""}
    if not any(line.startswith(f"{case['name']} is ") for line in listed):
        return {**case, "outcome": "silent", "broken": f"exit code {done.code}, {last}"}
    case["has"] = (done.said.partition(HAS)[2].splitlines() or ["unknown"])[0]
    if done.code == 0:
        wrong = must_be_refused(case["name"]) or not has_it(case["has"], place, value)
        return {**case, "outcome": "listed", "broken": f"has {case['has']}" if wrong else ""}
    if done.code is None:  # as one that waits for the other nodes of trainer.num_nodes
        return {**case, "outcome": "listed, then waits", "broken": ""}
    if done.code != 2 or "Traceback" in done.complained:
        return {**case, "outcome": "crash", "broken": done.complained[-300:]}
    asked = "in a resumed run" in last or "allow_changes" in last
    if case["name"] not in last or not asked:
        # listed, and refused for another reason, such as a value that does not fit the others
        return {**case, "outcome": "listed, then an error", "said": last, "broken": ""}
    return {**case, "outcome": "refused", **_allowed(run, config, place, value, last)}


def _allowed(
    run: Path, config: dict[str, Any], place: Place, value: Any, last: str
) -> dict[str, Any]:
    """Resume once more where that can be asked for."""
    if "allow_changes" not in last:
        return {"broken": ""}
    done = resume_forked(run, config, place, "--allow_changes", "true")
    has = (done.said.partition(HAS)[2].splitlines() or ["unknown"])[0]
    said = (done.complained.strip().splitlines() or [""])[-1]
    ends_well = done.code == 0 or (done.code == 2 and "allow_changes" not in said)
    fine = ends_well and has_it(has, place, value) and "Traceback" not in done.complained
    return {
        "has": has,
        "allowed": "goes on" if done.code == 0 else said,
        "broken": "" if fine else f"allowed, but has {has}: {said}",
    }


def has_it(has: str, place: Place, value: Any) -> bool:
    """Return whether what an object holds, as JSON, is what was typed, or cannot be told."""
    if has in ("unknown", json.dumps(value)) or dotted(place) in CHOSEN_BY_RUN:
        return True
    held = json.loads(has)
    if isinstance(held, float) and isinstance(value, int | float):
        return abs(held) == abs(value)  # 2 became 2.0; EarlyStopping keeps -min_delta
    return isinstance(held, str) and isinstance(value, str) and held.endswith(f"/{value}")


def resume_with_data(run: Path, full: dict[str, Any], change: str) -> dict[str, Any]:
    """Resume after the data file was changed."""
    file = run / "points.npz"
    content = file.read_bytes()
    try:
        DATA_CHANGES[change](file)
        done = resume_forked(run, full, None)
        allowed = resume_forked(run, full, None, "--allow_changes", "true")
    finally:
        file.write_bytes(content)
    last = (done.complained.strip().splitlines() or [""])[-1]
    refused = done.code == 2 and "Traceback" not in done.complained
    named = "data are not those of the run" in last or file.name in last
    wrong = not (refused and named) or "allow_changes" in allowed.complained
    return {
        "name": f"data: {change}",
        "outcome": "refused",
        "said": last,
        "broken": last if wrong else "",
    }


def resume_forked(run: Path, config: dict[str, Any], place: Place | None, *more: str) -> Outcome:
    """Go on with a copy of a run until it would train."""
    copy = run.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    (copy / "changed.yaml").write_text(yaml.safe_dump(config))
    return run_forked(lambda: _go_on(place, more), copy, LIMIT)


def _begin() -> None:
    """Be the first run: told to leave in the middle of an epoch."""
    from metalit import MetaLearner
    from metalit.__main__ import run

    begin = MetaLearner.on_train_batch_start

    def watch(model: Any, batch: Any, index: int) -> None:
        begin(model, batch, index)
        if model.global_step == STOP:
            os.kill(os.getpid(), signal.SIGTERM)

    MetaLearner.on_train_batch_start = watch
    sys.argv = ["metalit", "fit", "--config", "config.yaml"]
    run()


class Begun(BaseException):
    """Raised where training would go on."""


def _go_on(place: Place | None, more: Sequence[str]) -> None:
    """Be a resumed run: up to its first step, then say what it has."""
    from lightning.pytorch.loops.fit_loop import _FitLoop

    from metalit.__main__ import run

    def stop(loop: Any) -> None:
        if place is not None:
            print(f"{HAS}{_value_of(loop.trainer, place)}")
        raise Begun

    _FitLoop.on_advance_start = stop
    sys.argv = ["metalit", "fit", "--config", "changed.yaml", "--ckpt_path", "last", *more]
    with contextlib.suppress(Begun):
        run()


def _value_of(trainer: Any, place: Place) -> str:
    """Return what the objects of the run hold, as JSON, or "unknown"."""
    names = [str(each) for each in place if each != "init_args"]
    roots = {
        "model": trainer.lightning_module,
        "data": trainer.datamodule,
        "trainer": trainer,
        "checkpoint": trainer.checkpoint_callback,
        "last_checkpoint": next(
            (c for c in trainer.callbacks if type(c).__name__ == "LastCheckpoint"), None
        ),
    }
    found: Any = roots.get(names[0], Begun)
    if names[:2] == ["model", "optimizer"] and len(names) == 3:
        found, names = trainer.optimizers[0].param_groups[0], names[1:]
    for name in names[1:]:
        if found is Begun:
            break
        if isinstance(found, list) and name.isdigit():
            own = [c for c in found if type(c).__name__ == "EarlyStopping"]
            found = own[0] if own else None
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            found = getattr(found, name, getattr(found, f"_{name}", Begun))
    try:
        return json.dumps(found)
    except TypeError:  # as of the class Begun
        return "unknown"
