"""Every way to run tasks and to keep an inner loop gives the numbers of the plain loop."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metalit import Episode, MetaLearner, Samples
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy

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
