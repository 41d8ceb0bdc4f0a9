"""The benchmark of the meta-step, on shapes that cost nothing."""

import importlib
import json
import mmap
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[2]
NAMES = [
    "ours",
    "autograd loop",
    "higher",
    "torchopt",
    "torch.func loop",
    "torch.func vmap",
    "jax scan",
    "jax vmap",
    "jax loop",
]


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def timing():
    return importlib.import_module("meta_step.timing")


@pytest.fixture
def memory():
    return importlib.import_module("meta_step.memory")


@pytest.fixture
def variants():
    return importlib.import_module("meta_step.variants")


@pytest.fixture
def workloads():
    return importlib.import_module("meta_step.workloads")


@pytest.fixture
def machine():
    return importlib.import_module("meta_step.machine")


@pytest.fixture
def floor():
    return importlib.import_module("meta_step.floor")


@pytest.fixture
def contenders():
    return importlib.import_module("meta_step.contenders")


@pytest.fixture
def make(contenders):
    """Makes a contender, or skips where its package is missing."""

    def find(name):
        missing = contenders.missing_package(name)
        if missing:
            pytest.skip(f"{missing} is not installed")
        return contenders.load(name)

    return find


def flops(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_the_name_of_a_workload_says_its_steps_tasks_rows_and_order(workloads):
    workload = workloads.Workload.parse("w3-k20-t256-n7-fo")
    assert (workload.steps, workload.tasks, workload.support, workload.query) == (20, 256, 7, 7)
    assert workload.first_order
    assert workloads.Workload.parse("w1-k5").tasks == 4
    assert not workloads.Workload.parse("w1-k5").first_order
    with pytest.raises(ValueError, match="'w4-k1' is not of the form"):
        workloads.Workload.parse("w4-k1")


@pytest.mark.parametrize("name", ["w1-k1", "w2-k1", "w3-k1"])
def test_multiply_adds_of_a_forward_are_half_the_operations_that_torch_counts(
    workloads, floor, name
):
    state = workloads.draw(workloads.Workload.parse(f"{name}-t1-n2"))
    x = state.support_x[0]
    every, _ = floor.forward_multiply_adds(state.network, x)
    assert 2 * every * len(x) == flops(lambda: state.network(x))


@pytest.mark.parametrize("name", ["w1-k2", "w1-k2-fo", "w3-k2", "w3-k2-fo"])
def test_the_floor_is_what_autograd_multiplies_in_a_whole_step(workloads, floor, make, name):
    workload = workloads.Workload.parse(name).tiny()
    state = workloads.draw(workload)
    needed = floor.multiply_adds(workload)
    if workload.is_convolutional and not workload.first_order:
        # torch's double backward of a convolution makes a product for images, which need none
        _, first = floor.forward_multiply_adds(state.network, state.support_x[0])
        needed += workload.tasks * workload.steps * workload.support * first
    assert 2 * needed == flops(make("autograd loop")(workload, state).step)


@pytest.mark.parametrize(
    ("contender", "name"),
    [
        # JAX compiles convolutions for seconds
        pytest.param(contender, name, marks=[pytest.mark.slow] if slow else [])
        for contender in NAMES
        for name in ("w1-k2", "w1-k2-fo", "w3-k2", "w3-k2-fo")
        for slow in [contender.startswith("jax") and name.startswith("w1")]
    ],
)
def test_every_contender_has_the_gradients_of_the_autograd_loop(
    timing, workloads, contenders, make, contender, name
):
    assert list(contenders.CONTENDERS) == NAMES
    workload = workloads.Workload.parse(name).tiny()
    if contender == "jax vmap" and workload.is_convolutional:
        pytest.skip("refuses convolutions")
    errors = timing.check({contender: make(contender)}, workload, "cpu", 0)[contender]
    if (contender, name) == ("torch.func vmap", "w1-k2"):
        assert errors.are_wrong
        assert errors.all > 1e-3  # second derivatives of F.batch_norm under vmap, torch 2.13
    else:
        assert not errors.are_wrong
        assert errors.worst < 1e-9


@pytest.mark.parametrize("contender", NAMES)
def test_every_contender_makes_the_same_outer_step(workloads, make, contender):
    workload = workloads.Workload.parse("w3-k1").tiny()
    state = workloads.draw(workload, dtype=torch.float64)
    expected = make("autograd loop")(workload, state)
    found = make(contender)(workload, state)
    for _ in range(3):
        expected.step()
        found.step()
    gradients = found.gradients()
    for name, gradient in expected.gradients().items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("contender", ["jax scan", "jax vmap", "jax loop"])
def test_only_the_first_step_compiles(workloads, make, contender, caplog):
    found = make(contender)
    import jax

    workload = workloads.Workload.parse("w3-k1").tiny()
    contender = found(workload, workloads.draw(workload))
    contender.step()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        contender.step()
        contender.step()
    assert "ompil" not in caplog.text


def test_a_network_of_other_weights_is_wrong_and_so_is_nan(timing):
    expected = {"w": torch.ones(3), "b": torch.full((2,), 1e-9)}
    assert not timing.compare(expected, expected).are_wrong
    # what is nothing but rounding beside the rest may differ
    assert not timing.compare({**expected, "b": -expected["b"] / 100}, expected).worst > 1e-4
    assert timing.compare({**expected, "w": expected["w"] * 1.001}, expected).are_wrong
    assert timing.compare({**expected, "b": expected["b"] + 1e-6}, expected).are_wrong
    assert timing.compare({**expected, "b": expected["b"] * torch.nan}, expected).are_wrong


def test_a_wrong_contender_is_never_the_best_peer(timing):
    right, wrong = timing.Errors(0.0, 1e-15), timing.Errors(1e-3, 1e-3)
    times = {
        name: {"cpu": [ms, 2 * ms, ms], "wall": [ms, ms, ms]}
        for name, ms in [
            ("ours", 4.0),
            ("ours, looped", 2.0),
            ("slower", 9.0),
            ("quick", 1.0),
            ("slow", 8.0),
            (timing.MATMUL, 5.0),
        ]
    }
    errors = {name: wrong if name == "quick" else right for name in times}
    found = timing.summarize(times, errors, needed=2 * 10**3, size=10, clock="cpu")
    assert found["best peer"] == "slow"
    assert found["rows"]["quick"]["wrong"]
    assert found["rows"]["slow"]["ours is faster"] == (2.0, 2.0, 2.0)
    # five products of 10^3 multiply-adds take 5 ms: twice as many need 2 ms, and ours takes 4
    assert found["floor, ms"] == 2.0
    assert found["rows"]["ours"]["share of the matmul rate"] == 0.5


def test_a_ratio_is_the_median_over_rounds_within_its_interval(timing):
    middle, low, high = timing.ratio([2.0, 9.0, 4.0, 8.0, 10.0], [1.0, 3.0, 2.0, 4.0, 2.0])
    assert middle == 2.0
    assert low == 2.0
    assert high > 2.0


def test_every_round_times_everyone_and_the_first_three_take_place(timing):
    calls = {"a": lambda: None, "b": lambda: None}
    times = timing.interleave(calls, rounds=9, seconds=0.0, seed=0)
    assert {len(by[clock]) for by in times.values() for clock in ("cpu", "wall")} == {3}


def test_a_contender_that_refuses_is_left_out_with_its_reason(timing, workloads, capsys):
    def refuse(workload, state):
        raise ValueError("not this one.")

    workload = workloads.Workload.parse("w3-k1").tiny()
    assert timing.check({"picky": refuse}, workload, "cpu", 0) == {}
    assert capsys.readouterr().out == "picky is left out of tiny w3-k1: not this one.\n"


def test_options_reach_the_meta_learner_and_its_inner_loop(timing, workloads, variants):
    arguments = ["--contenders", "ours", "--option", "seed=3", "--inner", "eval_steps=7"]
    arguments += ["--variant", "other: seed=4"]
    makers = variants.chosen(timing.parser().parse_args(arguments))
    workload = workloads.Workload.parse("w3-k1").tiny()
    models = [make(workload, workloads.draw(workload)).model for make in makers.values()]
    assert list(makers) == ["ours", "ours, other"]
    assert [model.seed for model in models] == [3, 4]
    assert [model.learner.inner_loop.eval_steps for model in models] == [7, 7]
    with pytest.raises(SystemExit, match="option 'seed' has no value"):
        variants.chosen(timing.parser().parse_args(["--option", "seed"]))


def test_a_peer_that_is_not_installed_is_left_out_with_a_line(
    timing, contenders, variants, monkeypatch, capsys
):
    monkeypatch.setattr(contenders, "find_spec", lambda package: None)
    options = timing.parser().parse_args([])
    left = [name for name in NAMES if name.startswith(("ours", "autograd", "torch.func"))]
    assert list(variants.chosen(options)) == left
    assert "higher is left out: higher is not installed\n" in capsys.readouterr().out


def test_one_command_prints_the_table_and_writes_it(
    timing, workloads, tmp_path, monkeypatch, capsys
):
    machine = importlib.import_module("meta_step.machine")
    monkeypatch.setattr(machine, "steady", lambda *given: None)  # not for the tests after it
    arguments = ["--workloads", "w3-k1-t2-n5", "--contenders", "ours", "autograd loop"]
    arguments += ["--rounds", "2", "--results", str(tmp_path)]
    result = timing.main(arguments)
    assert str(tmp_path) not in json.dumps(result)
    assert json.loads((tmp_path / "meta_step.json").read_text()) == json.loads(json.dumps(result))
    found = result["workloads"]["w3-k1-t2-n5"]
    assert found["best peer"] == "autograd loop"
    assert found["rounds"] == 2
    assert "best peer" in capsys.readouterr().out


def touched(mebibytes: int) -> mmap.mmap:
    """Memory that is given back as soon as nobody holds it, whatever the allocator was told."""
    memory = mmap.mmap(-1, max(1, mebibytes) * 2**20)
    for page in range(0, mebibytes * 2**20, mmap.PAGESIZE):
        memory[page] = 1
    return memory


def test_memory_counts_what_a_step_holds_and_not_what_was_there(memory, workloads, contenders):
    class Holder(contenders.Contender):
        def __init__(self, workload, state):
            self.size = 0 if workload.name.startswith("tiny") else 32
            self.state = touched(64)
            touched(128)  # a peak of making it, not of a step

        def gradients(self):
            return {}

        def step(self):
            touched(self.size)

    found = memory.measure(Holder, workloads.Workload.parse("w3-k1"), "cpu", 0.0)
    assert found["MiB"] == pytest.approx(32, abs=2)
    assert found["wall ms"] > 0


def test_the_figure_of_memory_has_a_line_for_everyone(memory, tmp_path):
    row = {"MiB": 3.0, "cpu ms": 1.0, "wall ms": 1.0}
    points = {name: {"ours": row} for name in ("w1-k1-t1", "w1-k5-t1", "w3-k1-t32", "w1-k5-t32")}
    points["w1-k1-t1"]["jax scan"] = row
    memory.draw_figure(points, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").stat().st_size > 5000


def test_memory_is_related_to_the_fewest_steps_and_time_to_the_graph(memory, capsys):
    def row(mib, ms):
        return {"MiB": mib, "cpu ms": ms, "wall ms": 2 * ms}

    points = {
        "w1-k5-t1": {"ours, graph": row(20.0, 10.0), "ours, steps": row(12.0, 13.0)},
        "w1-k1-t1": {"ours, graph": row(10.0, 3.0), "ours, steps": row(10.0, 3.0)},
        "w1-k5-t32": {"ours": row(99.0, 9.0)},
    }
    memory.add_ratios(points, "cpu")
    graph, steps = points["w1-k5-t1"]["ours, graph"], points["w1-k5-t1"]["ours, steps"]
    assert (graph[memory.TO_FEWEST], graph[memory.TO_GRAPH]) == (2.0, 1.0)
    assert (steps[memory.TO_FEWEST], steps[memory.TO_GRAPH]) == (1.2, 1.3)
    assert memory.TO_FEWEST not in points["w1-k1-t1"]["ours, steps"]
    # other tasks are another curve
    assert points["w1-k5-t32"]["ours"] == row(99.0, 9.0)
    memory.show(points, "cpu")
    (line,) = (li for li in capsys.readouterr().out.splitlines() if "t1 " in li and "1.30" in li)
    assert line.split() == ["w1-k5-t1", "ours,", "steps", "12.0", "13.0", "1.20", "1.30"]


def test_processes_of_their_own_get_the_variants_of_ours(memory, monkeypatch):
    arguments = ["--contenders", "ours", "--variant", "steps: inner.memory=steps chunk=2"]
    found = memory.variants.chosen(memory.parser().parse_args(arguments))
    workload = memory.Workload.parse("w3-k1").tiny()
    model = found["ours, steps"](workload, memory.draw(workload)).model
    assert (model.learner.inner_loop.memory, model.chunk) == ("steps", 2)


def test_peers_run_with_the_allocator_of_a_process_without_the_engine(machine, monkeypatch):
    told = []

    class Library:
        def mallopt(self, parameter, value):
            told.append((parameter, value))

    monkeypatch.setattr("ctypes.CDLL", lambda _: Library())
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    machine.allocate(engine=True)
    assert told == [(-4, 0), (-1, 2**31 - 1)]
    told.clear()
    machine.allocate(engine=False)
    assert dict(told) == {-4: 65536, -3: 2**25, -1: 2**26}
