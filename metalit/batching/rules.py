"""Rules for what networks, losses and inner loops do most, at less cost than `torch.vmap`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .task_tensor import (
    Function,
    NotBatchableError,
    TaskTensor,
    getter,
    metadata,
    named,
    rule,
    through_vmap,
)

POINTWISE = (
    "abs", "add", "clamp", "clamp_max", "clamp_min", "cos", "div", "elu", "eq", "erf",
    "exp", "expm1", "float", "double", "ge", "gelu", "gt", "leaky_relu", "le", "log", "log1p",
    "logical_and", "logical_not", "logical_or", "logsigmoid", "lt", "maximum", "minimum", "mul",
    "ne", "neg", "pow", "reciprocal", "relu6", "rsqrt", "selu", "sigmoid", "sign", "silu", "sin",
    "softplus", "sqrt", "square", "sub", "tanh", "true_divide", "where", "__rsub__", "__rdiv__",
    "__rpow__",
)  # fmt: skip
REDUCTIONS = (
    "amax", "amin", "logsumexp", "mean", "sum",
)  # fmt: skip
METADATA = (
    "dim", "element_size", "is_complex", "is_floating_point", "ndimension", "nelement", "numel",
    "size",
)  # fmt: skip
VALUES = (
    "item", "tolist", "numpy", "__array__", "__bool__", "__contains__", "__float__", "__index__",
    "__int__",
)  # fmt: skip


def aligned(tensor: Any, rank: int) -> Any:
    """Return the value of a task tensor, with `rank` dimensions after that of the tasks."""
    if not isinstance(tensor, TaskTensor):
        return tensor
    missing = rank - tensor.value.dim() + 1
    shape = tensor.value.shape
    return tensor.value.reshape(shape[0], *[1] * missing, *shape[1:]) if missing else tensor.value


def pointwise(func: Function, *args: Any, **kwargs: Any) -> Any:
    """Apply a function that treats every element by itself, with broadcasting."""
    if kwargs.get("out") is not None or any(isinstance(v, TaskTensor) for v in kwargs.values()):
        return through_vmap(func, args, kwargs)
    in_place = kwargs.pop("inplace", False)
    ranks = [a.dim() for a in args if isinstance(a, Tensor)]
    if 0 in ranks and len({a.dtype for a in args if isinstance(a, Tensor)}) > 1:
        return through_vmap(func, args, kwargs)  # a scalar takes the type of the others
    rank = max(ranks)
    result = func(*(aligned(a, rank) for a in args), **kwargs)
    if not isinstance(result, Tensor):
        raise NotBatchableError(f"{func.__name__} gives results of unequal shapes")
    if in_place:
        return changed(args[0], TaskTensor(result))
    unchanged = [a for a in args if isinstance(a, TaskTensor) and a.value is result]
    return unchanged[0].viewed(result) if unchanged else TaskTensor(result)


def changed(target: Any, result: TaskTensor) -> TaskTensor:
    """Give a tensor the value of another, as an operation in place does; return it."""
    if not isinstance(target, TaskTensor):
        raise NotBatchableError("a tensor that all tasks share would get one value for each task")
    if target.aliased:
        raise NotBatchableError("a tensor of which there may be views changes in place")
    if result.shape != target.shape or result.dtype != target.dtype:
        raise NotBatchableError("an operation in place does not keep shape and type")
    target.become(result.pending or result.value)
    return target


def _pointwise_in_place(func: Function, target: Any, *args: Any, **kwargs: Any) -> TaskTensor:
    return changed(target, pointwise(func, target, *args, **kwargs))


def shifted(dim: int, rank: int) -> int:
    """Return a dimension of one task's tensor, which has `rank` of them, as one of the value."""
    if not -rank <= dim < rank:
        raise IndexError(f"dimension {dim} is out of range for a tensor of {rank} dimensions")
    return dim % rank + 1


def _reduction(func: Function, input: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(input, TaskTensor) or kwargs.get("out") is not None or input.dim() == 0:
        return through_vmap(func, (input, *args), kwargs)
    dim, *rest = args or (kwargs.pop("dim", kwargs.pop("axis", None)),)
    rank, value = input.dim(), input.value
    if dim is None or (isinstance(dim, Sequence) and not dim):
        if not (rest and rest[0]) and not kwargs.get("keepdim"):
            return TaskTensor(func(value.reshape(len(value), -1), 1, *rest, **kwargs))
        dim = range(rank)
    dims = shifted(dim, rank) if isinstance(dim, int) else [shifted(d, rank) for d in dim]
    return TaskTensor(func(value, dims, *rest, **kwargs))


@rule(*named("flatten"))
def _flatten(input: TaskTensor, start_dim: int = 0, end_dim: int = -1) -> TaskTensor:
    rank = input.dim()
    if rank == 0:
        return input.viewed(input.value.unsqueeze(1))
    return input.viewed(input.value.flatten(shifted(start_dim, rank), shifted(end_dim, rank)))


@rule(*named("reshape", "view"))
def _reshape(x: TaskTensor, *shape: Any, **kwargs: Any) -> Any:
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    if kwargs or not all(isinstance(size, int) for size in sizes):
        return through_vmap(torch.Tensor.reshape, (x, *shape), kwargs)
    return x.viewed(x.value.reshape(len(x.value), *sizes))


@rule(*named("to", "type_as"))
def _to(x: Any, *args: Any, **kwargs: Any) -> Any:
    args = tuple(a.value if isinstance(a, TaskTensor) else a for a in args)
    kwargs.pop("memory_format", None)  # see `_contiguous`
    if not isinstance(x, TaskTensor):
        return x.to(*args, **kwargs)
    return x.viewed(x.value.to(*args, **kwargs))


@rule(*named("unsqueeze"))
def _unsqueeze(input: TaskTensor, dim: int) -> TaskTensor:
    return input.viewed(input.value.unsqueeze(shifted(dim, input.dim() + 1)))


@rule(getter("mT"))
def _matrices_transposed(x: TaskTensor) -> Any:
    return x.viewed(x.value.mT) if x.dim() >= 2 else through_vmap(torch.t, (x,), {})


@rule(*named("t"), getter("T"))
def _transpose(x: TaskTensor) -> Any:
    return x.viewed(x.value.mT) if x.dim() == 2 else through_vmap(torch.Tensor.t, (x,), {})


@rule(*named("contiguous"))
def _contiguous(x: TaskTensor, **_: Any) -> TaskTensor:
    return x.viewed(x.value)  # how a value lies in memory is not the task's business


@rule(*named("clone"))
def _clone(input: TaskTensor, **_: Any) -> TaskTensor:
    return TaskTensor(input.value.clone())


@rule(*named("detach"))
def _detach(x: TaskTensor) -> TaskTensor:
    return x.viewed(x.value.detach())


@rule(*named("requires_grad_"))
def _requires_grad(x: TaskTensor, requires_grad: bool = True) -> TaskTensor:
    x.value.requires_grad_(requires_grad)
    return x


@rule(*named("matmul", "mm", "bmm", "__matmul__"))
def _matmul(a: Any, b: Any) -> Any:
    rank = max(a.dim(), b.dim())
    if min(a.dim(), b.dim()) < 2:
        return through_vmap(torch.matmul, (a, b), {})
    return TaskTensor(torch.matmul(aligned(a, rank), aligned(b, rank)))


@rule(F.linear)
def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    if not isinstance(weight, TaskTensor) and not isinstance(bias, TaskTensor):
        return TaskTensor(F.linear(input.value, weight, bias))
    if input.dim() != 2 or bias is None or not isinstance(input, TaskTensor):
        y = _matmul(input, weight.t()) if input.dim() > 1 else _matmul(input[None], weight.t())[0]
        return y if bias is None else y + bias.to(y.dtype)
    w = (
        weight.value.mT
        if isinstance(weight, TaskTensor)
        else weight.t().expand(len(input.value), -1, -1)
    )
    b = bias.value.unsqueeze(1) if isinstance(bias, TaskTensor) else bias
    return TaskTensor(torch.baddbmm(b, input.value, w))


@rule(F.group_norm)
def _group_norm(
    input: TaskTensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    y = F.group_norm(input.value.flatten(0, 1), num_groups, eps=eps)
    result: Any = TaskTensor(y.view(input.value.shape))
    shape = (-1, *[1] * (input.dim() - 2))
    result = result if weight is None else result * weight.reshape(shape)
    result = result if bias is None else result + bias.reshape(shape)
    return result.to(y.dtype)  # in mixed precision the weights have a longer one


@rule(F.instance_norm)
def _instance_norm(
    input: TaskTensor,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if running_mean is not None or not use_input_stats:
        raise NotBatchableError("instance norm keeps running statistics")
    if input.shape[2:].numel() == 1:  # for each task torch says what is wrong
        raise NotBatchableError(f"instance norm of a single value, shape {tuple(input.shape)}")
    return _group_norm(input, input.shape[1], weight, bias, eps)


@rule(F.cross_entropy)
def _cross_entropy(input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    names = ("weight", "size_average", "ignore_index", "reduce", "reduction", "label_smoothing")
    options = dict(zip(names, args, strict=False))
    options = {k: v for k, v in {**options, **kwargs}.items() if v is not None}
    plain = options.pop("reduction", "mean") == "mean"
    plain &= options.keys() <= {"ignore_index", "label_smoothing"}
    many = isinstance(input, TaskTensor) and isinstance(target, TaskTensor)
    if not (plain and many and input.dim() == 2 and target.dim() == 1):
        return through_vmap(F.cross_entropy, (input, target, *args), kwargs)
    logits, labels = input.value, target.value
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", **options)
    counted = (labels != options.get("ignore_index", -100)).sum(1)
    return TaskTensor(losses.view_as(labels).sum(1) / counted)


@rule(F.mse_loss)
def _mse_loss(input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    if args or {k for k, v in kwargs.items() if v is not None} - {"reduction"}:
        return through_vmap(F.mse_loss, (input, target, *args), kwargs)
    if input.shape != target.shape or kwargs.get("reduction", "mean") != "mean":
        return through_vmap(F.mse_loss, (input, target), kwargs)  # torch warns of the shapes
    return (input - target).square().mean()


@rule(torch.autograd.grad)
def _grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[TaskTensor | None, ...]:
    loss, *others = (outputs,) if isinstance(outputs, Tensor) else outputs
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if others or args or kwargs.get("grad_outputs") is not None or loss.dim() != 0:
        raise NotBatchableError("only a scalar can be differentiated for many tasks at once")
    if not all(isinstance(tensor, TaskTensor) for tensor in (loss, *tensors)):
        raise NotBatchableError(
            "the gradient of a tensor that all tasks share is asked for: an inner loop takes it by "
            "metalit.inner_loops.gradient, or of what metalit.batching.per_task returns"
        )
    # no task depends on another: the gradient of the sum is that of each
    total, *values = (tensor.value for tensor in (loss, *tensors) if isinstance(tensor, TaskTensor))
    found = torch.autograd.grad(total.sum(), values, **kwargs)
    return tuple(None if g is None else TaskTensor(g, aliased=True) for g in found)


def _agreed(func: Function, *args: Any, **kwargs: Any) -> Any:
    """Return what leaves torch, such as a number that is branched on, if it is that of all tasks.

    Code goes the same way for all tasks then, as it does where all have the same classes.
    """
    tensors = [arg.value.detach() for arg in args if isinstance(arg, TaskTensor)]
    if not all(bool((tensor == tensor[:1]).all()) for tensor in tensors):
        raise NotBatchableError(f"{func.__name__} gives every task another value")
    alone = (arg.value[0] if isinstance(arg, TaskTensor) else arg for arg in args)
    return func(*alone, **kwargs)


def _unknown(name: str, _: TaskTensor) -> Any:
    raise NotBatchableError(f"{name} of many tasks is not known")


@rule(F.one_hot)
def _one_hot(tensor: TaskTensor, num_classes: int = -1) -> TaskTensor:
    number = int(tensor.max()) + 1 if num_classes == -1 else num_classes
    return TaskTensor(F.one_hot(tensor.value, number))


@rule(torch.Tensor.__getitem__)
def _getitem(x: Any, index: Any) -> Any:
    if not isinstance(index, TaskTensor) or index.dtype != torch.bool or index.dim() == 0:
        return through_vmap(torch.Tensor.__getitem__, (x, index), {})
    tasks = len(index.value)
    number = int(TaskTensor(index.value.flatten(1).sum(1)))
    value = x.value if isinstance(x, TaskTensor) else x.expand(tasks, *x.shape)
    chosen = value[index.value]
    return TaskTensor(chosen.view(tasks, number, *chosen.shape[1:]))


def _of_value(name: str, x: TaskTensor) -> Any:
    return getattr(x.value, name)


def _register() -> None:
    for name in POINTWISE:
        for func in named(name):
            rule(func)(partial(pointwise, func))
        for func in named(f"{name}_"):
            rule(func)(partial(_pointwise_in_place, named(name)[0]))
    for name in REDUCTIONS:
        for func in named(name):
            rule(func)(partial(_reduction, func))
    for name in METADATA:
        rule(*named(name))(partial(metadata, getattr(torch.Tensor, name)))
    for name in ("device", "dtype", "ndim", "shape"):  # others are found by `through_vmap`
        rule(getter(name))(partial(metadata, getter(name)))
    for name in VALUES:
        func = getattr(torch.Tensor, name)
        rule(func)(partial(_agreed, func))
    rule(torch.Tensor.__len__)(lambda x: x.shape[0])
    for name in ("grad_fn", "is_leaf", "requires_grad"):
        rule(getter(name))(partial(_of_value, name))
    rule(getter("grad"))(partial(_unknown, "grad"))


_register()
