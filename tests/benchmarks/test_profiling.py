"""The benchmark of a step's parts, on steps that take no time."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from metalit import EpisodeDataModule

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def profiling(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("profiling")


def small(profiling):
    network = nn.Sequential(nn.Linear(10, 5))
    data = EpisodeDataModule(
        profiling.LabelTasks(5, 1, 2), profiling.table, meta_batch_size=2, val_episodes=2
    )
    return profiling.learned(network, 1), data


def test_the_parts_of_a_step_add_up_to_it(profiling):
    with profiling.fresh(small(profiling), 6, 0) as (model, data):
        before = [p.detach().clone() for p in model.parameters()]
        times, total = profiling.bare(model, data, profiling.CLOCKS["wall"])
        after = list(model.parameters())
    assert {len(values) for values in times.values()} == {6}
    assert sum(map(sum, times.values())) == pytest.approx(total)
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_the_bare_loop_and_fit_train_alike(profiling):
    weights, parts = [], small(profiling)
    for lightning in (False, True):
        with profiling.fresh(parts, 6, 0) as (model, data):
            if lightning:
                clock = profiling.Clock(profiling.CLOCKS["wall"])
                profiling.fit(model, data, clock)
                assert 0 < clock.total < 60
            else:
                profiling.bare(model, data, profiling.CLOCKS["cpu"])
            weights.append(model.learner.network[0].weight)
    assert torch.equal(*weights)


def test_what_is_around_the_learner_keeps_data_and_loss(profiling):
    model, data = profiling.around(small(profiling))
    with profiling.fresh((model, data), 2, 0) as (copied, its):
        times, _ = profiling.bare(copied, its, profiling.CLOCKS["wall"])
    assert len(times["data"]) == 2
    assert [tuple(p.shape) for p in model.parameters()] == [()]


def test_the_command_prints_and_writes_a_row(profiling, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(profiling, "w3", lambda: small(profiling))
    monkeypatch.setattr(profiling, "AROUND", 3)
    monkeypatch.setattr(profiling, "commit", lambda: "0")
    file = tmp_path / "profile.json"
    options = ["--steps", "4", "--rounds", "1", "--workers", "0", "--results", str(file)]
    monkeypatch.setattr("sys.argv", ["profiling.py", "W3", *options])
    profiling.main()
    row = json.loads(file.read_text())["workloads"]["W3"]
    assert row["step_ms"] > 0
    assert 0 < row["waits_0_workers"] < 1
    said = capsys.readouterr().out
    for words in ("W3: a bare step takes", "data waits:", "of the bare loop"):
        assert words in said
