import gc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from metalit import Episode, MetaLearner, Samples
from metalit.batching import TaskBatch
from metalit.inner_loops import GradientDescent, Params, Unrolling, unrolling
from metalit.learners import MAML
from metalit.metrics import MeanSquaredError
from metalit.networks import MLP


def quadratic(matrix: Tensor) -> Callable[[Params], Params]:
    """Steps of gradient descent on `w · matrix · w / 2`, differentiably in matrix too."""
    return lambda params: {"w": params["w"] - 0.1 * matrix @ params["w"]}


@pytest.mark.parametrize("memory", ["graph", "steps", "sqrt"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 17])
def test_gradients_reach_the_parameters_and_whatever_else_the_steps_use(
    memory: str, steps: int
) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    start = torch.randn(3, dtype=torch.float64, requires_grad=True)
    # the steps see the leaf through a graph of its own, which is walked once a step
    step = quadratic((matrix + matrix.T).exp())
    found = Unrolling(memory)(step, {"w": start * 2}, steps)["w"]
    contraction = torch.eye(3, dtype=torch.float64) - 0.1 * (matrix + matrix.T).exp()
    wanted = torch.linalg.matrix_power(contraction, steps) @ (start * 2)
    torch.testing.assert_close(found, wanted)
    pairs = [torch.autograd.grad(w.sin().sum(), (start, matrix)) for w in (found, wanted)]
    torch.testing.assert_close(*pairs)


@pytest.mark.parametrize("memory", ["steps", "sqrt"])
@pytest.mark.parametrize("changed", [0, 1])
def test_a_change_in_place_before_the_walk_back_is_noticed(memory: str, changed: int) -> None:
    leaves = matrix, start = torch.eye(3, requires_grad=True), torch.ones(3, requires_grad=True)
    result = Unrolling(memory)(quadratic(matrix), {"w": start}, 4)
    with torch.no_grad():
        leaves[changed].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result["w"].sum().backward()


def test_a_third_derivative_is_refused_where_the_graph_is_not_kept() -> None:
    start = torch.ones(3, requires_grad=True)
    result = Unrolling("steps")(quadratic(torch.eye(3)), {"w": start}, 4)["w"]
    (first,) = torch.autograd.grad(result.square().sum(), [start], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def kept_tensors(memory: str, steps: int) -> int:
    """Bytes of the tensors that are alive between the inner loop and the outer backward."""
    network = MLP(4, [32, 32], 1, activation=nn.Tanh())
    maml = MAML(network, GradientDescent(0.01, steps, memory=memory), nn.MSELoss())
    x, y = torch.randn(50, 4), torch.randn(50, 1)
    # with hooks, what a graph keeps are objects of Python's
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        loss = maml(Samples(x, y), x).square().mean()
        gc.collect()
        storages = [t.untyped_storage() for t in gc.get_objects() if type(t) is Tensor]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    loss.backward()
    return sum(sizes.values())


def test_walking_back_keeps_little_more_for_many_steps_than_for_few() -> None:
    growth = {
        memory: kept_tensors(memory, 40) - kept_tensors(memory, 10)
        for memory in ("graph", "steps", "sqrt")
    }
    parameters = sum(p.nbytes for p in MLP(4, [32, 32], 1).parameters())
    assert growth["steps"] <= 1.1 * 30 * parameters
    assert growth["sqrt"] <= 1.1 * 5 * parameters
    assert growth["graph"] > 5 * growth["steps"]


def test_auto_keeps_the_graph_that_fits_and_else_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def step(params: Params) -> Params:
        calls.append(params)
        return {"w": params["w"].sin().exp().tanh()}

    start = {"w": torch.ones(1000, requires_grad=True)}
    for limit, memory in ((10**6, "graph"), (50_000, "steps"), (8_000, "sqrt")):
        monkeypatch.setattr(unrolling, "_memory", lambda device, limit=limit: limit * 8)
        unroll = Unrolling()
        result = unroll(step, start, 10)["w"]
        assert list(unroll._chosen.values()) == [memory]
        assert ("_WalkBack" in str(result.grad_fn)) == (memory != "graph")
    assert "_WalkBack" not in str(Unrolling()(step, start, unrolling.FEW)["w"].grad_fn)


def test_auto_chooses_anew_for_another_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unrolling, "_memory", lambda device: 8 * 10**6)
    unroll, start = Unrolling(), torch.ones(1000, requires_grad=True)
    for tasks, walked in ((2, False), (64, True)):
        with TaskBatch(range(tasks), start.device).active():
            result = unroll(lambda params: {"w": params["w"].sin().exp()}, {"w": start}, 10)["w"]
        assert ("_WalkBack" in str(result.grad_fn)) == walked


def test_an_unknown_choice_of_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="memory='all' is unknown: use auto, graph, steps, sqrt"):
        GradientDescent(0.1, memory="all")


@pytest.mark.parametrize("tasks", ["loop", "batched"])
def test_a_parameter_that_the_loss_does_not_use_stays_and_gets_no_gradient(tasks: str) -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    maml = MAML(Unused(), GradientDescent(0.1, 3, memory="steps"), nn.MSELoss())
    x, y = torch.randn(3, 4, 2), torch.randn(3, 4, 1)
    model = MetaLearner(maml, nn.MSELoss(), MeanSquaredError(), tasks=tasks).train()
    model.score(Episode(Samples(x, y), Samples(x, y)))[0].backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in maml.network.unused.parameters())
    assert all(float(p.grad.abs().sum()) > 0 for p in maml.network.used.parameters())
