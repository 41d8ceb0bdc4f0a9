"""Wrong configurations, drawn at random: see benchmarks/reliability/measure_fuzz.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RELIABILITY = Path(__file__).parents[2] / "benchmarks" / "reliability"


def fuzz(count, seed, folder):
    options = ["fuzz", "--count", str(count), "--seed", str(seed), "--results", str(folder)]
    done = subprocess.run(
        [sys.executable, str(RELIABILITY), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "METALIT_DEBUG": "", "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (folder / "reliability_fuzz.json").is_file(), done.stderr
    return json.loads((folder / "reliability_fuzz.json").read_text())


def test_wrong_configs_end_with_one_line_that_names_what_is_wrong(tmp_path):
    result = fuzz(40, 0, tmp_path)
    assert result["what broke"] == []
    assert result["refused"] > 20


@pytest.mark.slow
def test_five_hundred_wrong_configs_end_with_one_line(tmp_path):
    assert fuzz(500, 0, tmp_path)["what broke"] == []


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(RELIABILITY))
    import measure_fuzz

    return measure_fuzz


@pytest.mark.parametrize(
    ("code", "complained", "problem"),
    [
        (2, "\nmetalit: error: a.b is 3: correct it.\n", ""),
        (0, "", ""),
        (None, "", "still running after 60 s"),
        (1, "Traceback (most recent call last)", "exit code 1"),
        (-9, "", "exit code -9"),
        (2, "Traceback\nmetalit: error: a.b is 3", "a traceback"),
        (2, "metalit: error: a.b is 3\nmore", "no line with the error at the end"),
        (2, f"metalit: error: a.b {'x' * 500}", "a line of 520 characters"),
        (2, "metalit: error: a.b (METALIT_DEBUG=1 shows where)", "an unexpected error"),
        (2, "metalit: error: something is wrong", "none of a.b is named"),
    ],
)
def test_the_judge_tells_good_ends_from_bad(code, complained, problem, measure):
    from bad_configs import Case
    from forked import Outcome

    case = Case("base", "kind", "a.b: 3", b"", [], ("a.b",))
    assert measure.judge(case, Outcome(code, "", complained, 0.1)) == problem
