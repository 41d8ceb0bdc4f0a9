"""The measurements of kills, saves and costs: small ones, and all of it as slow tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"


def measure(folder, name, *options):
    """Run a measurement; return what is done and what it wrote."""
    command = [sys.executable, str(FOLDER), name, *options, "--results", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    file = folder / f"reliability_{name}.json"
    assert file.exists(), done.stdout + done.stderr
    return done, json.loads(file.read_text())


def test_a_run_that_is_killed_thrice_goes_on_bit_for_bit(tmp_path):
    done, result = measure(tmp_path, "kills", "--count", "3")
    assert done.returncode == 0, result["faults"]
    assert result["faults"] == []
    assert sum(result["kills"].values()) == 3


def test_a_kill_during_a_save_leaves_a_whole_checkpoint_on_one_device_and_on_two(tmp_path):
    done, result = measure(tmp_path, "saves", "--count", "6", "--values", "30000")
    assert done.returncode == 0, result["faults"]
    places = [result[place] for place in ("same device", "another device") if place in result]
    assert [sum(place["kills"].values()) for place in places] == [6] * len(places)


def test_the_cost_is_measured_whatever_it_is(tmp_path):
    _, result = measure(tmp_path, "cost", "--count", "2", "--steps", "12")
    assert result["step_ms"] > 0
    assert 0 < result["share_of_callback_and_guards"] < 1
    assert all(row["ratio"] > 0 for row in result["saving"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kills", "saves"])
def test_no_promise_is_broken(name, tmp_path):
    done, result = measure(tmp_path, name)
    assert done.returncode == 0, result["faults"]
