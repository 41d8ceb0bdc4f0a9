"""The measurements of what is not finite, and of memory, with few cases."""

import importlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reliability"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a measurement; return the number of broken promises and what it wrote."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("metalit", "lightning.pytorch"):  # which measurements set
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "level", logger.level)

    def run(name: str, *options: str) -> tuple[int, dict[str, Any]]:
        module = importlib.import_module(f"measure_{name}")
        broken = module.main([*options, "--results", str(tmp_path)])
        return broken, json.loads((tmp_path / f"reliability_{name}.json").read_text())

    return run


@pytest.mark.filterwarnings("ignore")
def test_each_place_ends_in_finite_weights_or_in_one_line(measure: Any) -> None:
    broken, result = measure("nonfinite", "--count", "12", "--seed", "97")
    assert broken == 0, result["cases"]
    assert len(result["ends"]) == 12


def test_cases_are_the_same_each_time_and_reach_all_kinds(measure: Any) -> None:
    cases = importlib.import_module("nonfinite_cases")
    drawn = [cases.draw_case(number, 0) for number in range(200)]
    assert [str(case) for case in drawn[:5]] == [str(cases.draw_case(n, 0)) for n in range(5)]
    for name, known in (
        ("place", cases.PLACES),
        ("learner", cases.LEARNERS),
        ("mode", ("loop", "batched", "auto", "compiled")),
        ("optimizer", cases.OPTIMIZERS),
    ):
        assert {getattr(case, name) for case in drawn} == set(known)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_cases(measure: Any) -> None:
    broken, result = measure("nonfinite", "--count", "50", "--seed", "1")
    assert broken == 0, result["cases"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_memory_of_an_evaluation_is_flat(measure: Any) -> None:
    broken, result = measure("memory", "--count", "2000")
    assert broken == 0, result["found"]
