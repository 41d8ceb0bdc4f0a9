"""A tensor with one value for every task of a meta-batch, which code for one task can use."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined] # which is documented

Function = Callable[..., Any]

RULES: dict[Function, Function] = {}
"""How a torch function acts on all tasks at once; those without a rule go through `torch.vmap`."""


def getter(attribute: str) -> Function:
    """Return the function that gets an attribute of a tensor."""
    function: Function = getattr(torch.Tensor, attribute).__get__
    return function


_grad_fn = getter("grad_fn")


IN_FULL_PRECISION = (
    "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity",
    "cross_entropy", "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss",
    "layer_norm", "log_softmax", "margin_ranking_loss", "mse_loss", "nll_loss", "poisson_nll_loss",
    "smooth_l1_loss", "softmax", "triplet_margin_loss",
)  # fmt: skip
"""Functions that mixed precision computes in float32; it does not reach into `torch.vmap`."""


class NotBatchableError(RuntimeError):
    """Raised where code that was written for one task cannot be run for many at once."""


class Pending(ABC):
    """Operations that wait, because they cost less together with those that follow.

    Attributes:
        shape: Shape of the result, with the tasks first.
        dtype: Type of the result.
        device: Device of the result.
        recorded: Whether gradients flow through it, as they did where it was written down.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def __init__(self) -> None:
        self.recorded = torch.is_grad_enabled()

    @abstractmethod
    def compute(self) -> Tensor:
        """Return the result, of shape `(T, *shape)`."""


class TaskTensor(torch.Tensor):
    """T tensors of one shape, one for each task, that look like a single one.

    Shape, methods and functions are those of one task's tensor, so a network or a loss written for
    one task runs unchanged, and computes all tasks at once. A tensor that is no `TaskTensor` is
    shared by all tasks. Derivatives are taken outside, by ordinary autograd on the values of all
    tasks together, and therefore are exact to any order.

    Attributes:
        aliased: Whether another tensor may share its memory; it cannot change in place then.
        derived: What was computed from the value alone, for the next operation that needs it: the
            inner steps see the same support set again and again.

    Args:
        value: The tensors, stacked along a first dimension: shape `(T, *shape)`.
        aliased: See the attribute.
    """

    aliased: bool
    derived: dict[Any, Any]
    _value: Tensor | None
    _pending: Pending | None

    @staticmethod
    def __new__(cls: type[Self], value: Tensor | Pending, aliased: bool = False) -> Self:
        """Make a tensor with the shape of one task's."""
        tensor: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape[1:],
            dtype=value.dtype,
            device=value.device,
            # of the tensor that torch sees, not of the value: see `_check`
            requires_grad=value.dtype.is_floating_point or value.dtype.is_complex,
        )
        tensor.become(value)
        tensor.aliased = aliased
        return tensor

    @property
    def value(self) -> Tensor:
        """The tensors, stacked along a first dimension: shape `(T, *shape)`."""
        self._check()
        if self._value is None:
            assert self._pending is not None
            with torch.set_grad_enabled(self._pending.recorded):
                self.become(self._pending.compute())
        assert self._value is not None
        return self._value

    @property
    def pending(self) -> Pending | None:
        """What has yet to be computed and may be added to here, None if there is nothing."""
        self._check()
        waiting = self._pending
        same = waiting is not None and waiting.recorded == torch.is_grad_enabled()
        return waiting if same else None

    def _check(self) -> None:
        """Refuse the result of an autograd function of the user's.

        Its forward has acted on all tasks, but without a graph: torch put its backward behind this
        tensor and not behind the value.
        """
        if metadata(_grad_fn, self) is not None:
            raise NotBatchableError("a torch.autograd.Function is applied")

    def become(self, value: Tensor | Pending) -> None:
        """Take another value of the same shape, as an operation in place does."""
        self._value = value if isinstance(value, Tensor) else None
        self._pending = value if isinstance(value, Pending) else None
        self.derived = {}

    def viewed(self, value: Tensor) -> TaskTensor:
        """Return a tensor of a value that may share the memory of this one."""
        self.aliased = True
        return TaskTensor(value, aliased=True)

    @classmethod
    def __torch_function__(
        cls,
        func: Function,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Apply the rule of a function, or the function itself to each task."""
        rule = RULES.get(func)
        if rule is None:
            return through_vmap(func, args, kwargs or {})
        return rule(*args, **(kwargs or {}))

    @classmethod
    # torch's annotation takes it for an instance method
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Function, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse what has gone around the torch functions: it would see no values."""
        raise NotBatchableError(f"{func} cannot act on many tasks at once")


def rule(*functions: Function) -> Callable[[Function], Function]:
    """Let the function below say how torch functions act on all tasks at once."""

    def register(function: Function) -> Function:
        RULES.update(dict.fromkeys(functions, function))
        return function

    return register


def named(*names: str) -> list[Function]:
    """Return the functions and methods of torch with these names."""
    places = (torch, torch.Tensor, torch.nn.functional)
    found = [getattr(place, name, None) for name in names for place in places]
    return [function for function in found if callable(function)]  # torch.float is a type


def through_vmap(func: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Apply a function that has no rule of its own to every task, by `torch.vmap`."""
    name = getattr(func, "__name__", str(func))
    if (name.endswith("_") and not name.endswith("__")) or name == "__setitem__":
        raise NotBatchableError(f"{name} changes a tensor in place")
    if kwargs.get("inplace") or kwargs.get("out") is not None:
        raise NotBatchableError(f"{name} writes into a given tensor")
    if name == "__get__":  # an attribute
        result = metadata(func, *args)
        if isinstance(result, Tensor):
            raise NotBatchableError(f"{func} of many tasks is not known")
        return result
    inputs: list[TaskTensor] = []
    _mapped((args, kwargs), inputs.append, TaskTensor)

    form = None  # of the result, which may hold more than tensors

    def for_one(*slices: Tensor) -> tuple[Tensor, ...]:
        nonlocal form
        rest = iter(slices)
        tensors: list[Tensor] = []
        filled, options = _mapped((args, kwargs), lambda _: next(rest), TaskTensor)
        form = func(*filled, **options)
        _mapped(form, tensors.append, Tensor)
        return tuple(tensors)

    try:
        with warnings.catch_warnings():
            # then an operation goes through the tasks one by one, as the loop would
            warnings.filterwarnings("ignore", "There is a performance drop")
            values = iter(torch.vmap(for_one)(*_as_autocast(name, inputs)))
    except LinAlgError:  # of these values: it can be done for many tasks
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise NotBatchableError(f"{name}: {str(error).splitlines()[0]}") from error
    for tensor in inputs:
        tensor.aliased = True  # the result may be a view of it
    return _mapped(form, lambda _: TaskTensor(next(values), aliased=True), Tensor)


def _as_autocast(name: str, inputs: list[TaskTensor]) -> list[Tensor]:
    """Return the values of tensors, in float32 where mixed precision would or types would clash."""
    values = [tensor.value for tensor in inputs]
    short = [value.dtype in (torch.bfloat16, torch.float16) for value in values]
    if not any(short) or not torch.is_autocast_enabled(values[0].device.type):
        return values
    if name not in IN_FULL_PRECISION and not any(v.dtype == torch.float32 for v in values):
        return values
    return [v.float() if s else v for v, s in zip(values, short, strict=True)]


def metadata(func: Function, *args: Any) -> Any:
    """Apply a function that looks at shape, type or device alone."""
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args)


def _mapped(tree: Any, function: Callable[[Any], Any], kind: type) -> Any:
    """Apply a function to the tensors in nested tuples, lists and dictionaries."""
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, Mapping):
        return {key: _mapped(value, function, kind) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        parts = [_mapped(value, function, kind) for value in tree]
        # named tuples take their fields one by one; torch's own, such as those of max, do not
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree
