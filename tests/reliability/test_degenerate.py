"""Degenerate data: see benchmarks/reliability/measure_degenerate.py."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

RELIABILITY = Path(__file__).parents[2] / "benchmarks" / "reliability"


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(str(RELIABILITY))
    import measure_degenerate

    return measure_degenerate


def check(measure, numbers, folder):
    ends = {measure.CASES[n][0]: measure.run_case(n, folder / str(n)) for n in numbers}
    broken = {name: said for name, end in ends.items() if (said := measure.judge(end))}
    assert broken == {}


def test_degenerate_data_are_answered_or_refused_in_one_line(measure, tmp_path):
    names = [name for name, _ in measure.CASES]
    made = [n for n, name in enumerate(names) if name.startswith("made: ")]
    spread = np.linspace(len(made), len(names) - 1, 60).round().astype(int).tolist()
    check(measure, [*made, *spread], tmp_path)


@pytest.mark.slow
def test_all_degenerate_cases(measure, tmp_path):
    check(measure, range(len(measure.CASES)), tmp_path)


def test_a_child_that_hangs_or_dies_is_seen(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(RELIABILITY))
    from forked import run_forked

    (tmp_path / "a").mkdir()
    assert run_forked(lambda: time.sleep(60), tmp_path / "a", 0.5).code is None
    killed = run_forked(lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path / "a", 20)
    assert killed.code == -signal.SIGKILL
    done = run_forked(lambda: print("well"), tmp_path / "a", 20)
    assert (done.code, done.said) == (0, "well\n")
    failed = run_forked(lambda: 1 / 0, tmp_path / "a", 20)
    assert failed.code == 1
    assert "ZeroDivisionError" in failed.complained
