"""Tasks that diverge are left out of the mean loss and of its gradient, and change nothing else."""

import shutil
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metalit import Episode, Samples
from metalit.batching import TaskMap, have_finite_norm
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.networks import MLP

from .test_equality import make_episodes, make_network

BAD = [torch.nan, torch.inf, -torch.inf]
WAYS: list[dict[str, Any]] = [
    {"mode": "loop"},
    {"mode": "loop", "chunk": 3},
    {"mode": "batched"},
    {"mode": "batched", "chunk": 1},
    {"mode": "batched", "chunk": 2},
    {"mode": "auto", "chunk": 4},
]
SEEDS = [11, 12, 13, 14, 15]


def make_maml(name: str = "") -> MAML:
    torch.manual_seed(0)
    network = make_network(name)[0] if name else MLP(6, 8, 3).double()
    return MAML(network, GradientDescent(0.1, 2), nn.CrossEntropyLoss()).train()


def answer(maml: MAML) -> Callable[[Episode], tuple[Tensor, Tensor]]:
    def function(episode: Episode) -> tuple[Tensor, Tensor]:
        outputs = maml(episode.support, episode.query.x)
        return outputs, nn.functional.cross_entropy(outputs, episode.query.y)

    return function


def spoilt(episodes: Episode, tasks: Sequence[int], value: float, part: int = 0) -> Episode:
    """The same with a value in one row of the support set (part 0) or of the query set (1)."""
    x = episodes[part].x.clone()
    x[list(tasks), 1] = value
    parts = list(episodes)
    parts[part] = Samples(x, episodes[part].y)
    return Episode(*parts)


def explicit(maml: MAML, episodes: Episode, tasks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Mean loss of some tasks, and their share of the gradient of the mean over all, one by one."""
    parameters, losses = list(maml.parameters()), []
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for b in tasks:
        torch.manual_seed(SEEDS[b])
        support, query = (Samples(part.x[b], part.y[b]) for part in episodes)
        loss = answer(maml)(Episode(support, query))[1]
        gradients = torch.autograd.grad(loss, parameters)
        total = [a + b for a, b in zip(total, gradients, strict=True)]
        losses.append(loss.detach())
    return torch.stack(losses).mean(), [gradient / len(SEEDS) for gradient in total]


def difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    a, b = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (found, wanted))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("part", [0, 1])
def test_the_mean_is_that_over_the_healthy_tasks(
    way: dict[str, Any], value: float, part: int
) -> None:
    maml, episodes = make_maml(), make_episodes((6,), tasks=5)
    found = TaskMap(**way).mean_loss(
        answer(maml), spoilt(episodes, [1, 2], value, part), SEEDS, list(maml.parameters())
    )
    loss, gradients = explicit(maml, episodes, [0, 3, 4])
    assert found.kept.tolist() == [True, False, False, True, True]
    assert abs(float((found.loss - loss).detach())) <= 1e-12
    assert difference(torch.autograd.grad(found.loss, maml.parameters()), gradients) <= 1e-12


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_a_task_draws_its_own_numbers_when_others_are_left_out(way: dict[str, Any]) -> None:
    maml = make_maml("dropout")
    features = make_network("dropout")[1]
    episodes = make_episodes(features, tasks=5)
    bad = spoilt(episodes, [2], torch.nan)
    found = TaskMap(**way).mean_loss(answer(maml), bad, SEEDS, list(maml.parameters()))
    loss, gradients = explicit(maml, episodes, [0, 1, 3, 4])
    assert abs(float((found.loss - loss).detach())) <= 1e-12
    assert difference(torch.autograd.grad(found.loss, maml.parameters()), gradients) <= 1e-12


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_finite_loss_with_a_gradient_that_is_not_is_left_out(way: dict[str, Any]) -> None:
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    episodes = make_episodes((6,), tasks=5)
    x = episodes.query.x.clone()
    x[3] = 0  # where the slope of the root is infinite
    episodes = Episode(episodes.support, Samples(x, episodes.query.y))

    def root(episode: Episode) -> tuple[Tensor, Tensor]:
        return episode.query.x, (weight.sum() * episode.query.x.square().sum()).sqrt()

    found = TaskMap(**way).mean_loss(root, episodes, SEEDS, [weight])
    assert found.kept.tolist() == [True, True, True, False, True]
    roots = x.square().flatten(1).sum(1).sqrt()
    torch.testing.assert_close(found.loss, 3**0.5 * roots.sum() / 4, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(found.loss, weight)
    wanted = torch.full_like(weight, float(roots.sum() / (2 * 3**0.5) / 5))
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_where_no_task_is_healthy_the_loss_is_nan_and_the_gradient_zero(
    way: dict[str, Any],
) -> None:
    maml = make_maml()
    bad = spoilt(make_episodes((6,), tasks=5), range(5), torch.inf)
    found = TaskMap(**way).mean_loss(answer(maml), bad, SEEDS, list(maml.parameters()))
    assert found.loss.isnan()
    assert not found.kept.any()
    gradients = torch.autograd.grad(found.loss, maml.parameters())
    assert all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_a_constant_loss_that_is_not_finite_is_left_out(way: dict[str, Any]) -> None:
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    episodes = spoilt(make_episodes((6,), tasks=5), [0], torch.nan, part=1)
    found = TaskMap(**way).mean_loss(
        lambda e: (e.query.x, e.query.x.sum()), episodes, SEEDS, [weight]
    )
    assert found.kept.tolist() == [False, True, True, True, True]
    torch.testing.assert_close(found.loss, episodes.query.x[1:].sum() / 4)
    assert not found.loss.requires_grad


def regress(weight: Tensor) -> Callable[[Episode], tuple[Tensor, Tensor]]:
    """Least squares with no regularisation, from the first rows of the support set."""

    def function(episode: Episode) -> tuple[Tensor, Tensor]:
        x = episode.support.x[:6] * weight
        outputs = episode.query.x @ torch.linalg.solve(x, x.new_ones(6, 3))
        return outputs, outputs.square().mean()

    return function


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("singular", [[2], [0, 1, 2], [3, 4], range(4)], ids=str)
def test_a_task_without_a_solution_is_left_out(
    way: dict[str, Any], singular: Sequence[int], caplog: pytest.LogCaptureFixture
) -> None:
    weight = torch.linspace(1, 2, 6, dtype=torch.float64).requires_grad_()
    episodes = make_episodes((6,), tasks=5)
    healthy = [b for b in range(5) if b not in singular]
    losses = [
        regress(weight)(Episode(*(Samples(p.x[b], p.y[b]) for p in episodes)))[1] for b in healthy
    ]
    (wanted,) = torch.autograd.grad(sum(losses), weight)
    bad = spoilt(episodes, singular, 0.0)
    tasks = TaskMap(**way)
    for _ in range(2):
        found = tasks.mean_loss(regress(weight), bad, SEEDS, [weight])
        assert [b for b in range(5) if found.kept[b]] == healthy
        assert abs(float((found.loss - sum(losses) / len(losses)).detach())) <= 1e-12
        assert difference(torch.autograd.grad(found.loss, weight), [wanted / 5]) <= 1e-12
        assert found.outputs.isnan().flatten(1).all(1).tolist() == [not k for k in found.kept]
    assert tasks.mode == way["mode"]
    (said,) = caplog.messages
    assert said.startswith("a task has no answer (torch.linalg.solve: ")
    with torch.no_grad():
        outputs, _ = tasks(regress(weight), bad, SEEDS)
    torch.testing.assert_close(outputs, found.outputs, equal_nan=True)


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_where_no_task_has_a_solution_the_loss_is_nan_and_the_gradient_zero(
    way: dict[str, Any],
) -> None:
    weight = torch.ones(6, dtype=torch.float64, requires_grad=True)
    bad = spoilt(make_episodes((6,), tasks=5), range(5), 0.0)
    found = TaskMap(**way).mean_loss(regress(weight), bad, SEEDS, [weight])
    assert found.loss.isnan()
    assert not found.kept.any()
    assert not torch.autograd.grad(found.loss, weight)[0].any()
    with pytest.raises(RuntimeError, match="singular"):
        TaskMap(**way)(regress(weight), bad, SEEDS)


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_an_answer_in_whole_numbers_cannot_be_missing(way: dict[str, Any]) -> None:
    bad = spoilt(make_episodes((6,), tasks=5), [1], 0.0)

    def numbers(episode: Episode) -> tuple[Tensor]:
        return ((torch.linalg.inv(episode.support.x[:6]) * 9).long(),)

    with pytest.raises(RuntimeError, match="singular"):
        TaskMap(**way)(numbers, bad, SEEDS)


def test_a_constant_loss_beside_one_that_is_not_finite_is_kept() -> None:
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    episodes = spoilt(make_episodes((6,), tasks=5), [1], torch.nan, part=1)
    episodes.query.x[0, 0] = 99

    def constant_if_large(episode: Episode) -> tuple[Tensor, Tensor]:
        x = episode.query.x
        return x, x.sum() if x[0, 0] == 99 else weight.sum() * x.sum()

    found = TaskMap("loop", chunk=5).mean_loss(constant_if_large, episodes, SEEDS, [weight])
    assert found.kept.tolist() == [True, False, True, True, True]
    (gradient,) = torch.autograd.grad(found.loss, weight)
    torch.testing.assert_close(gradient, (episodes.query.x[2:].sum() / 5).expand(3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_steps_leave_out_the_same_tasks() -> None:
    maml, episodes = make_maml(), make_episodes((6,), tasks=5)
    tasks, parameters = TaskMap(compiled=True), list(maml.parameters())
    for bad in ([], [1, 2], []):
        found = tasks.mean_loss(answer(maml), spoilt(episodes, bad, torch.nan), SEEDS, parameters)
        loss, gradients = explicit(maml, episodes, [b for b in range(5) if b not in bad])
        assert abs(float((found.loss - loss).detach())) <= 1e-12
        assert difference(torch.autograd.grad(found.loss, parameters), gradients) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_norm_is_finite_unless_a_value_or_its_square_is_not(dtype: torch.dtype) -> None:
    ordinary = [torch.ones(3, dtype=dtype), torch.full((2, 2), 200.0, dtype=dtype)]
    assert have_finite_norm(ordinary, torch.ones(2))
    assert have_finite_norm([])
    assert have_finite_norm([torch.full((9,), 6e4, dtype=dtype)])
    for value in BAD:
        assert not have_finite_norm([*ordinary, torch.tensor([0.0, value], dtype=dtype)])
        assert not have_finite_norm(ordinary, torch.tensor([1.0, value]))
    huge = torch.finfo(dtype).max ** 0.6
    assert have_finite_norm([torch.tensor([huge], dtype=dtype)]) == (dtype == torch.float16)


def test_what_is_large_is_finite_all_the_same() -> None:
    assert have_finite_norm([torch.tensor(1e100, dtype=torch.float64)])
    assert have_finite_norm([torch.ones(1)], torch.tensor([3e38, 3e38]))  # though their sum is not


def test_gradients_of_several_dtypes_and_sparse_ones_have_a_norm() -> None:
    sparse = torch.sparse_coo_tensor([[0, 2]], [1.0, torch.inf], (4,), check_invariants=True)
    mixed = [torch.ones(2), torch.ones(2, dtype=torch.float64), torch.ones(1, dtype=torch.half)]
    assert have_finite_norm(mixed)
    assert not have_finite_norm([*mixed, sparse])
