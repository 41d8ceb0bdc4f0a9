"""Damaged, malicious and changed checkpoints: the fast part, and all of it as slow tests."""

import contextlib
import importlib
import random
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from metalit import MetaLearner
from metalit.checkpoints import refuse_changes, refuse_schedule_changes, run_differences

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"


@pytest.fixture(scope="module", autouse=True)
def on_the_path():
    before = list(sys.path)
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
    yield
    sys.path[:] = before


@pytest.fixture(scope="module")
def run(tmp_path_factory, on_the_path):
    """The last checkpoint of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["metalit"])
        return importlib.import_module("small_run").make_run(tmp_path_factory.mktemp("run"))


def test_no_flipped_bit_and_no_cut_is_silent(run):
    measure = importlib.import_module("measure_damage")
    generator = random.Random(0)
    for make, count in ((measure.any_bit, 60), (measure.any_cut, 20)):
        damages = [make(generator, run) for _ in range(count)]
        assert measure.count_loads(run, damages)["named"] == count


def test_no_malicious_checkpoint_runs_code(run, tmp_path, monkeypatch):
    attacks = importlib.import_module("malicious_checkpoints")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    for name, (file, environment) in attacks.write_all(tmp_path, run).items():
        with monkeypatch.context() as patch, contextlib.suppress(ValueError, TypeError):
            for key, value in environment.items():
                patch.setenv(key, value)
            MetaLearner.load_from_checkpoint(file)
        assert not Path(attacks.MARK).exists(), name
        assert "evil" not in sys.modules, name


def test_every_changed_value_is_found_and_refused_where_it_must_be(run):
    values = importlib.import_module("changed_values")
    full = yaml.safe_load((run.parents[1] / "config.yaml").read_text())
    places = list(values.leaves(full))
    assert len(places) > 80
    for place in places:
        value = values.candidates(place, values.look_up(full, place))[0]
        changes = run_differences(full, values.changed(full, place, value))
        name = values.dotted(place)
        assert list(changes) == [name]
        if values.must_be_refused(name):
            scheduled = "lr_scheduler" in name
            refuse = (
                refuse_schedule_changes if scheduled else partial(refuse_changes, allowed=False)
            )
            with pytest.raises(ValueError, match=rf"{name} (would|cannot) change"):
                refuse(changes)
        else:
            refuse_changes(changes, allowed=False)
        refuse_changes(changes, allowed=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["worlds", "gradients", "damage", "malicious", "changes"])
def test_no_promise_is_broken(name, tmp_path):
    command = [sys.executable, str(FOLDER), name, "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
