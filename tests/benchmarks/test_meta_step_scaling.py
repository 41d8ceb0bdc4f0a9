"""The benchmark of one process and of two, on shapes that cost nothing."""

import importlib
import json
import os
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAME = "w3-k1-t4-n5"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("meta_step.scaling")


def record(seconds, gradient=(3.0, 4.0), loss=2.0):
    ends = torch.tensor([0.0, 9.0, 7.0, *seconds], dtype=torch.float64).cumsum(0).tolist()
    gradient = torch.tensor(gradient, dtype=torch.float64)
    return {"ends": ends, "gradient": gradient, "loss": torch.tensor(loss, dtype=torch.float64)}


def test_steps_of_the_warm_up_are_not_timed(scaling):
    assert scaling.seconds_of(record([2.0, 1.0])) == [2.0, 1.0]


def test_the_whole_gradient_of_every_process_and_the_mean_loss_are_compared(scaling):
    alone = [record([])]
    halves = [record([], loss=1.0), record([], loss=3.0)]
    assert scaling.difference(alone, halves) == {"loss": 0.0, "gradient": 0.0}
    own = [record([]), record([], gradient=(3.0, 4.5))]  # one that was not averaged
    assert scaling.difference(alone, own) == {"loss": 0.0, "gradient": 0.1}


def test_tasks_of_two_processes_count_once_and_those_apart_are_added(scaling, monkeypatch, capsys):
    seconds = {"one": [4.0], "two": [2.0, 2.0], "apart": [1.0, 2.0]}

    def run(argv, workload, kind, check=False):
        return [record([s, s, 9 * s]) for s in seconds[kind]]

    monkeypatch.setattr(scaling, "run", run)
    workload = scaling.Workload.parse(NAME)
    found = scaling.measure([], workload, rounds=2)
    # 4 tasks; each of those apart has 2 of them
    assert found["tasks per second"] == {"one": 1.0, "two": 2.0, "apart": 3.0}
    assert found["two / one"] == (2.0, 2.0, 2.0)
    assert found["apart / one"] == (3.0, 3.0, 3.0)
    assert found["two / apart"][0] == pytest.approx(2 / 3, abs=1e-3)
    scaling.show(workload, found)
    assert "two / one         2.00 [2.00, 2.00]\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [{"gradient": (3.0, 4.001)}, {"gradient": (3.0, torch.nan)}, {"loss": torch.nan}]
)
def test_nothing_is_timed_if_two_processes_differ_from_one(scaling, monkeypatch, wrong):
    def run(argv, workload, kind, check=False):
        assert check
        return [record([])] if kind == "one" else [record([]), record([], **wrong)]

    monkeypatch.setattr(scaling, "run", run)
    with pytest.raises(SystemExit, match=r"two processes differ from one at w3.*nothing is timed"):
        scaling.measure([], scaling.Workload.parse(NAME), rounds=1)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_fit_takes_the_gradients_of_the_meta_batch_and_notes_every_step(
    scaling, monkeypatch, precision
):
    # "auto", since a process group would outlive the test
    trainer = scaling.Trainer
    monkeypatch.setattr(
        scaling, "Trainer", lambda **given: trainer(**{**given, "strategy": "auto"})
    )
    workload = scaling.Workload.parse(NAME)
    models, batches = [], []

    def make(workload, state):
        contender = scaling.variants.ours(["inner.memory=steps"])(workload, state)
        step = contender.model.training_step

        def training_step(episodes, batch_idx):
            batches.append(episodes)
            return step(episodes, batch_idx)

        contender.model.training_step = training_step
        models.append(contender.model)
        return contender

    found = scaling.train(make, workload, 3, 1, precision)
    assert len(found["ends"]) == len(batches) == 3
    assert batches[0].support.x.shape == (4, 5, 10)
    assert batches[0].query.x.shape == (4, 5, 10)
    double = torch.float64 if precision == "64-true" else torch.float32
    fresh = scaling.variants.ours([])(workload, scaling.draw(workload)).model.to(double)
    loss, _ = fresh.score(batches[0])
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in fresh.parameters()])
    assert found["gradient"].dtype == double
    torch.testing.assert_close(found["gradient"], gradient)
    torch.testing.assert_close(found["loss"], loss.detach())
    weights = next(fresh.parameters())
    assert not torch.equal(next(models[0].parameters()), weights)


def test_a_process_that_fails_ends_the_benchmark_with_what_it_said(scaling, monkeypatch):
    def popen(command, env, stdout, stderr):
        assert command[command.index("--nproc-per-node") + 1] == "2"
        assert command[command.index("--here") + 1 :][:2] == [NAME, "4"]
        assert env["OMP_NUM_THREADS"] == "1"
        stdout.write("out of paper")
        return type("Failed", (), {"wait": lambda self: 1})()

    monkeypatch.setattr(scaling.subprocess, "Popen", popen)
    with pytest.raises(SystemExit, match="out of paper"):
        scaling.run([], scaling.Workload.parse(NAME), "two")


def test_a_meta_batch_that_two_cannot_share_is_refused_at_once(scaling):
    with pytest.raises(SystemExit, match="w3-k1-t3-n5 has 3 tasks"):
        scaling.main(["--workloads", "w3-k1-t3-n5"])


@pytest.mark.slow  # starts eight processes, which import torch
def test_one_command_compares_times_and_writes(scaling, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(BENCHMARKS.parent))
    options = ["--workloads", NAME, "--rounds", "1", "--steps", "2", "--results", str(tmp_path)]
    result = scaling.main(options)
    assert json.loads((tmp_path / "meta_step_scaling.json").read_text()) == json.loads(
        json.dumps(result)
    )
    assert str(tmp_path) not in json.dumps(result)
    found = result["workloads"][NAME]
    assert max(found["difference in float64"].values()) < 1e-12
    assert min(found["tasks per second"].values()) > 0
    assert "two / one" in capsys.readouterr().out
