"""What a TaskTensor does alone: operations against a loop over tasks, and what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metalit.batching import NotBatchableError, TaskBatch, TaskTensor, per_task

SHARED = torch.linspace(-1, 1, 5, dtype=torch.float64)


def values(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, *shape, generator=generator, dtype=torch.float64)


MEDIAN = values(4, 5)[:, 0, 0].median()  # above it are some tasks but not all

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "arithmetic": lambda a, b: (1 - a) * b / (2 + b.abs()) + a**2 - SHARED,
    "other ranks": lambda a, b: a + b[0] * a[:, :1] + b.sum(),
    "powers of and divisions by a tensor": lambda a, b: 2**a + 1 / (b + 9),
    "in place": lambda a, b: (a * 1).mul_(b).add_(1).clamp_(-0.5, 0.5).tanh_(),
    "in place, with a slope": lambda a, b: (
        F.leaky_relu(a * 1, 0.3, inplace=True) + F.elu(b * 1, 0.5, True)
    ),
    "augmented assignment": lambda a, b: _augmented(a * 1, b),
    "matrix products": lambda a, b: a @ b.T + torch.matmul(a, b.t()) + a.mm(b.mT),
    "vectors": lambda a, b: a @ b[0] + (SHARED @ a.T) + torch.dot(a[0], b[0]),
    "a shared matrix": lambda a, b: torch.diag(SHARED) @ a.T + (a @ torch.diag(SHARED)).T,
    "batches of matrices": lambda a, b: a[None].expand(2, -1, -1) @ b.t(),
    "sums": lambda a, b: a.sum() + a.sum(0) + a.sum(dim=1, keepdim=True) + a.mean((0, 1)),
    "sums that keep dimensions": lambda a, b: a.sum((0, 1), keepdim=True) + torch.mean(a, -1)[:1],
    "extremes": lambda a, b: a.amax(1) + b.amin(dim=-1) + a.max(dim=1).values + b.max(),
    "logsumexp": lambda a, b: torch.logsumexp(a, 1) + a.softmax(1).sum(1) + b.log_softmax(-1)[:, 0],
    "shapes": lambda a, b: a.view(-1).reshape(5, 4).unsqueeze(0).flatten(1) * b.flatten()[0],
    "permutation": lambda a, b: a[None].permute(2, 0, 1).transpose(0, 1).squeeze(0) + b.T,
    "indices": lambda a, b: a[:, [0, 2]] + b[1:, ::2][:, :2].sum() + a[..., -1:],
    "joining": lambda a, b: torch.cat([a, b]) + torch.stack([a, b], 1).sum(1).repeat(2, 1),
    "comparison": lambda a, b: torch.where(a > b, a, b) + (a >= 0) * b + torch.maximum(a, b),
    "a mask": lambda a, b: a.masked_fill(b > 0, 0.0) + torch.where(b > 0, 1.0, a),
    "casts": lambda a, b: a.float().double() + b.to(torch.float32).to(a) + SHARED.to(b),
    "scalars of another type": lambda a, b: (
        (a > 0) * b.sum() + (a > 0).float().sum() * torch.tensor(1 / 3, dtype=torch.float64)
    ),
    "vectors by scalars of another type": lambda a, b: a.detach().float() * b.detach().sum(),
    "sums of all that keep dimensions": lambda a, b: a.sum(None, True) * b.amax((), True) + a,
    "shapes of matrices in batches": lambda a, b: (a[None].mT @ b.expand(2, 4, 5)).mT[0],
    "products from the right": lambda a, b: a.t().__rmatmul__(b) @ a,
    "names of arguments": lambda a, b: (
        F.linear(input=a, weight=b) + torch.sum(input=a, dim=1) + torch.flatten(input=b)[:4]
    ),
    "orders of memory": lambda a, b: (
        a[None, None].contiguous(memory_format=torch.channels_last)
        + b[None, None].to(memory_format=torch.channels_last)
        + a[None, None].clone(memory_format=torch.channels_last)
    ),
    "sorting": lambda a, b: a.sort(dim=1).values + b.cumsum(0) + a.argsort(1).double(),
    "gathering": lambda a, b: a.gather(1, b.argsort(1)) + F.one_hot(b.argmax(1), 5),
    "distances": lambda a, b: (
        torch.cosine_similarity(a[:, None], b, dim=2) @ b + F.normalize(a, dim=1)
    ),
    "norms": lambda a, b: F.layer_norm(a, (5,)) + F.group_norm(b, 5, SHARED, SHARED),
    "losses": lambda a, b: F.mse_loss(a, b) + F.cross_entropy(a, b.argmax(1)) + F.l1_loss(a, b),
    "cross-entropies": lambda a, b: (
        F.cross_entropy(a, b.argmax(1), reduction="none")
        + F.cross_entropy(a, b.argmax(1), label_smoothing=0.2)
        + F.cross_entropy(a, b.argmax(1), ignore_index=1)
        + F.cross_entropy(a, torch.where(b.argmax(1) == 1, -100, b.argmax(1)))
        + F.cross_entropy(a, b.softmax(1))
        + F.cross_entropy(a, b.argmax(1), weight=SHARED.abs())
    ),
    "linear": lambda a, b: F.linear(a, b) + F.linear(a, b, b[:, 0]) + F.linear(a, a[:4] * 2),
    "linear of shared inputs": lambda a, b: F.linear(
        torch.ones_like(SHARED).expand(4, 5), a, b[:, 0]
    ),
    "linear with one shared": lambda a, b: (
        F.linear(a, torch.diag(SHARED), b[0]) + F.linear(a, b[:5, :], SHARED[:4]).sum()
    ),
    "a mask of as many in every task": lambda a, b: (
        a[b >= b.amax(1, keepdim=True)] + SHARED[:4][b.argmax(1) < 9]
    ),
    "classes": lambda a, b: F.one_hot(b.argsort(1)[:, 0] * 0 + 4) * a,
    "a branch that all take": lambda a, b: (
        a * 2 if a.abs().sum() > 0 and not b.isnan().any() else b
    ),
    "numbers that are those of all": lambda a, b: (
        a * int((b.argsort(1) + 1).max()) * (a * 0 + 2).sum().item()
        + sum((b.detach() * 0 + 3)[0].numpy(force=True).tolist()) * float((a > a).sum() + 1)
    ),
    "a member of all": lambda a, b: a + b if 7 in a * 0 + 7 else a,
    "einsum": lambda a, b: torch.einsum("nd,md->nm", a, b),
    "what autograd knows": lambda a, b: (
        a * 2 if (a * 1).grad_fn and not (b * 1).is_leaf and (b * 1).detach().is_leaf else b
    ),
    "metadata": lambda a, b: a * (a.shape[0] + a.dim() + a.size(1) + a.numel() + len(a) + a.ndim),
}


def _augmented(a: Tensor, b: Tensor) -> Tensor:
    a += b
    a *= 2
    a -= 1
    return a


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_give_values_and_second_derivatives_of_every_task(name: str) -> None:
    operation = OPERATIONS[name]
    a, b = values(4, 5).requires_grad_(), values(4, 5, seed=1).requires_grad_()
    found = operation(TaskTensor(a, aliased=True), TaskTensor(b, aliased=True))
    wanted = torch.stack([operation(x, y) for x, y in zip(a, b, strict=True)])
    assert isinstance(found, TaskTensor)
    assert found.shape == wanted.shape[1:]
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found.value, wanted, rtol=1e-12, atol=1e-12)
    if not wanted.requires_grad:
        return
    pairs = []
    for result in (found.value, wanted):
        first = torch.autograd.grad(
            result.sin().sum(), (a, b), create_graph=True, materialize_grads=True
        )
        total = sum(g.square().sum() for g in first)
        second = (
            torch.autograd.grad(total, (a, b), materialize_grads=True)
            if total.requires_grad
            else ()
        )
        pairs.append((*first, *second))
    torch.testing.assert_close(*pairs, rtol=1e-10, atol=1e-10)


def test_a_gradient_within_the_tasks_is_that_of_each_task() -> None:
    a = values(4, 5)
    x = TaskTensor(a).requires_grad_()
    (found,) = torch.autograd.grad((x**3).sum(), [x])
    torch.testing.assert_close(found.value, 3 * a**2)


def _shared_target(x: Tensor) -> None:
    torch.zeros(4, 5, dtype=torch.float64).add_(x)


def _assignment(x: Tensor) -> None:
    torch.zeros(4, 5, dtype=torch.float64)[0] = x[0]


def _view_changes(x: Tensor) -> None:
    y = x * 1
    y.view(-1).add_(1)


def _viewed_changes(x: Tensor) -> None:
    y = x * 1
    _ = y[0]
    y.add_(1)


class Reversed(torch.autograd.Function):
    """Passes a tensor on, and its gradient with the other sign."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x[0, 0] >= MEDIAN),
    "branch": lambda x: x if x[0, 0] >= MEDIAN else -x,
    "number": lambda x: float(x.sum()),
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "a mask of unknown size": lambda x: x[x > 0],
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "a shared target": _shared_target,
    "an assignment": _assignment,
    "a change of the type": lambda x: x.float().add_(x),
    "out": lambda x: torch.add(x, x, out=torch.empty(4, 5, dtype=torch.float64)),
    "a change of a view": _view_changes,
    "a change of what has a view": _viewed_changes,
    "random numbers": lambda x: torch.rand_like(x),
    "running statistics": lambda x: F.batch_norm(x, torch.zeros(5), torch.ones(5), training=True),
    "the gradient of a shared tensor": lambda x: torch.autograd.grad(
        x.sum(), [torch.ones(1, requires_grad=True)]
    ),
    "the gradient of no scalar": lambda x: torch.autograd.grad(x, [x], torch.ones(4, 5)),
    "an autograd function of the user": lambda x: Reversed.apply(x * 2) + 1,
    "its result in a list": lambda x: torch.cat([Reversed.apply(x)]),
    "a given gradient": lambda x: torch.autograd.grad(x.sum(), [x], torch.ones(())),
    "a change of what a cast did not copy": lambda x: (x * 1).double().add_(1),
    "torch.func": lambda x: torch.func.grad(lambda y: y.sum())(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_for_many_tasks_is_refused(name: str) -> None:
    x = TaskTensor(values(4, 5).requires_grad_(), aliased=True)
    with pytest.raises(NotBatchableError):
        REFUSED[name](x)


BEYOND: dict[str, Callable[[Tensor], Tensor]] = {
    "a sum": lambda x: x.sum(-3),
    "a mean of several": lambda x: x.mean((0, -3)),
    "an extreme": lambda x: torch.amax(x, dim=-3),
    "a new dimension": lambda x: x.unsqueeze(-4),
    "a flat one": lambda x: x.flatten(-3),
    "one too many": lambda x: x.sum(2),
}


@pytest.mark.parametrize("name", BEYOND)
def test_dimensions_that_one_task_does_not_have_are_an_error_as_in_torch(name: str) -> None:
    for x in (torch.ones(3, 3), TaskTensor(torch.ones(3, 3, 3))):
        with pytest.raises(IndexError, match="out of range"):
            BEYOND[name](x)


def test_tasks_draw_their_own_numbers_as_each_would_alone() -> None:
    x, dropout = values(4, 5), nn.Dropout(0.5)
    batch = TaskBatch([3, 4, 5], torch.device("cpu"))
    with batch.active():
        found = dropout(dropout(TaskTensor(x)) + 1)
    for seed, one, result in zip((3, 4, 5), x, found.value, strict=True):
        torch.manual_seed(seed)
        assert torch.equal(dropout(dropout(one) + 1), result)


@pytest.mark.parametrize("dropout", [nn.Dropout(1.0), nn.Dropout(0.5).eval()])
def test_dropout_of_all_or_in_evaluation_draws_nothing(dropout: nn.Dropout) -> None:
    x = values(4, 5)
    batch = TaskBatch([3, 4, 5], torch.device("cpu"))
    with batch.active():
        found = dropout(TaskTensor(x))
    assert torch.equal(found.value, dropout(x))
    assert not batch.has_drawn


def test_every_task_gets_its_own_copy_of_a_shared_tensor_only_among_others() -> None:
    shared = torch.ones(2)
    assert per_task(shared) is shared
    with TaskBatch([1, 2, 3], torch.device("cpu")).active():
        own = per_task(shared)
        assert isinstance(own, TaskTensor)
        assert own.value.shape == (3, 2)
        assert per_task(own) is own


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1}, {"ceil_mode": True}, {"dilation": 2}, {"stride": 1}, {"stride": 3},
        {"stride": (2, 1)}, {"kernel_size": 9, "padding": 4}, {"kernel_size": (1, 3)},
    ],
)  # fmt: skip
def test_pools_of_every_kind_after_a_norm_are_those_of_torch(options: dict[str, Any]) -> None:
    x, arguments = values(2, 4, 7, 7), {"kernel_size": 2, **options}
    found, wanted = (
        F.max_pool2d(F.batch_norm(t, None, None, training=True), **arguments)
        for t in (TaskTensor(x), x[1])
    )
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.value[1], wanted)


MIXED: dict[str, nn.Module] = {
    "convolution": nn.Conv2d(3, 4, 3),
    "batch norm": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
    "group norm": nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)),
    "linear": nn.Linear(6, 2),
}


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", MIXED)
def test_layers_in_mixed_precision_give_the_type_that_torch_gives(name: str, many: bool) -> None:
    layer, x = MIXED[name], values(2, 3, 6, 6).float()
    parameters = {
        key: TaskTensor(p.expand(3, *p.shape)) if many else p for key, p in layer.named_parameters()
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, wanted = functional_call(layer, parameters, TaskTensor(x)), layer(x[0])
    assert found.dtype == found.value.dtype == wanted.dtype
    torch.testing.assert_close(found.value[0], wanted, rtol=0.02, atol=0.05)


def test_functions_without_a_rule_take_the_numbers_that_mixed_precision_gives_them() -> None:
    x, weight = values(4, 5).float(), values(2, 5, 3).float()
    target = torch.ones(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = TaskTensor(x.bfloat16())
        loss = F.binary_cross_entropy_with_logits(short, target)
        convolved = F.conv1d(short.t()[None], TaskTensor(weight))
        turned = short[None].permute(2, 0, 1)
        wanted = F.binary_cross_entropy_with_logits(x[0].bfloat16(), target)
    assert loss.dtype == wanted.dtype == torch.float32
    torch.testing.assert_close(loss.value[0], wanted)
    torch.testing.assert_close(
        convolved.value[0], F.conv1d(x[0].t()[None], weight[0]), rtol=0.02, atol=0.05
    )
    assert turned.dtype == torch.bfloat16


def test_a_batch_norm_of_one_value_is_an_error_as_it_is_in_torch() -> None:
    x = TaskTensor(values(1, 2, 1, 1))
    with pytest.raises(ValueError, match="needs at least 2"):
        _ = F.batch_norm(x, None, None, training=True).value
