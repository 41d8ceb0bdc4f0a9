"""Runs of the command line beside a W&B that fails, as `benchmarks/reliability wandb` has them."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = [
    "no key",
    "no key, online asked for",
    "no network",
    "silent server",
    "server falls silent",
    "core killed",
    "core stopped",
    "core killed, online",
    "nothing wrong",
]


@pytest.fixture(scope="module")
def measure():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.syspath_prepend(str(BENCHMARKS / "reliability"))
        yield importlib.import_module("measure_wandb")


@pytest.fixture(scope="module")
def alone(measure, tmp_path_factory):
    return measure.run(tmp_path_factory.mktemp("alone") / "run", None)


def test_every_scenario_is_tested(measure):
    assert list(measure.SCENARIOS) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_on_whatever_wandb_does(name, measure, alone, tmp_path):
    case = measure.SCENARIOS[name]
    found = measure.run(tmp_path / "run", case)
    # the end, since the start takes as long as other processes let it
    assert measure.judge(case, found, alone, found.last - alone.last) == []
