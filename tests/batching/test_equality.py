"""Every way to run tasks and to keep an inner loop gives the numbers of the plain loop."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metalit import Episode, MetaLearner, Samples
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy
from metalit.networks import MLP

from .networks import NETWORKS


def make_network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    make, features = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    with torch.no_grad():
        network(torch.rand(4, *features))  # lazy layers learn their shapes
        for parameter in network.parameters():  # norms with weights of either sign
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.double(), features


def make_episodes(features: tuple[int, ...], tasks: int = 3, way: int = 3) -> Episode:
    generator = torch.Generator().manual_seed(1)
    sets = []
    for shot in (2, 3):
        x = torch.randn(tasks, way * shot, *features, generator=generator, dtype=torch.float64)
        sets.append(Samples(x, torch.arange(way).repeat(tasks, shot)))
    return Episode(*sets)


def results(
    network: nn.Module,
    episodes: Episode,
    *,
    adapt: str = "*",
    inner_loss: nn.Module | None = None,
    tasks: Any = "loop",
    chunk: int | None = None,
    **loop: Any,
) -> list[Tensor]:
    """Loss, metric and meta-gradients of a meta-batch."""
    inner = GradientDescent(lr=0.1, **{"steps": 2, "memory": "graph", **loop})
    maml = MAML(network, inner, inner_loss or nn.CrossEntropyLoss(), adapt)
    model = MetaLearner(
        maml, nn.CrossEntropyLoss(), Accuracy(), seed=3, tasks=tasks, chunk=chunk
    ).train()
    torch.manual_seed(7)
    loss, metric = model.score(episodes)
    wanted = [p for p in model.parameters() if p.requires_grad]
    return [loss, metric, *torch.autograd.grad(loss, wanted)]


def error(found: list[Tensor], wanted: list[Tensor]) -> float:
    """The relative error of all numbers together."""
    a, b = (torch.cat([t.detach().double().flatten() for t in ts]) for ts in (found, wanted))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("first_order", [False, True])
def test_batched_tasks_give_the_numbers_of_the_loop(name: str, first_order: bool) -> None:
    network, features = make_network(name)
    episodes = make_episodes(features)
    wanted = results(network, episodes, first_order=first_order)
    for chunk in (None, 1, 2):
        found = results(network, episodes, first_order=first_order, tasks="batched", chunk=chunk)
        assert error(found, wanted) <= 1e-10
    other = results(network, episodes, first_order=not first_order)
    assert error(other, wanted) > 1e-6  # the comparison can fail


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("memory", ["steps", "sqrt"])
@pytest.mark.parametrize("tasks", ["loop", "batched"])
def test_walking_back_gives_the_gradient_of_the_graph(name: str, memory: str, tasks: str) -> None:
    network, features = make_network(name)
    episodes = make_episodes(features)
    wanted = results(network, episodes, steps=3)
    found = results(network, episodes, steps=3, memory=memory, tasks=tasks)
    assert error(found, wanted) <= 1e-10


@pytest.mark.parametrize("tasks", ["loop", "batched"])
@pytest.mark.parametrize("memory", ["graph", "steps"])
def test_a_trained_encoder_below_a_frozen_head_gets_its_second_order_gradient(
    tasks: str, memory: str
) -> None:
    network = MLP(6, 8, 3).double()
    episodes = make_episodes((6,))
    names = [name for name, _ in network.named_parameters()]
    last = dict(network.named_parameters())
    for name in names[-2:]:
        last[name].requires_grad_(False)
    adapt = names[-1].rsplit(".", 1)[0] + ".*"
    found = results(network, episodes, adapt=adapt, tasks=tasks, memory=memory)[2:]

    def loss(values: dict[str, Tensor], samples: Samples) -> Tensor:
        outputs = torch.func.functional_call(network, values, samples.x)
        return nn.functional.cross_entropy(outputs, samples.y)

    total: Any = 0
    for b in range(3):
        support, query = (Samples(part.x[b], part.y[b]) for part in episodes)
        fast = {name: last[name].detach().requires_grad_() for name in names[-2:]}
        for _ in range(2):
            grads = torch.autograd.grad(loss({**last, **fast}, support), list(fast.values()),
                                        create_graph=True)  # fmt: skip
            fast = {k: v - 0.1 * g for (k, v), g in zip(fast.items(), grads, strict=True)}
        total = total + loss({**last, **fast}, query) / 3
    wanted = torch.autograd.grad(total, [last[name] for name in names[:-2]])
    assert error(found, list(wanted)) <= 1e-10
