"""Steps of an inner loop one after another, and what of them is kept for the outer gradient."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from math import isqrt
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from ..batching import RandomState, TaskTensor, active_batch, per_task
from .base import Params
from .graph import captured_leaves, leaf_of, value_of

Memory = Literal["auto", "graph", "steps", "sqrt"]
"""What is kept of an inner loop: the graph, the parameters of every step, or of some steps."""

Step = Callable[[Params], Params]

SHARE = 0.125
"""Share of the device's memory that "auto" lets the graph of an inner loop take."""

FEW = 5
"""Steps for which "auto" keeps the graph without a look at its size."""


class Unrolling:
    """Takes the steps of an inner loop, so that the outer gradient can flow back through them.

    The graph of K steps takes K times the memory of one. The parameters alone are enough: the
    gradient is then walked back step by step, each of which is computed once more; it is the same
    gradient, to the last digits. Only gradients of the outer gradient need the graph.

    Args:
        memory: What is kept. "graph": everything; the fastest for few steps. "steps": the
            parameters of every step, and the graph of one step at a time; about a third more time.
            "sqrt": the parameters of every √K-th step; the least memory, one more computation of
            every step. "auto": the graph, unless it would take more than an eighth of the
            device's memory; then "steps", or "sqrt" if even these would.

    Raises:
        ValueError: If `memory` is none of these.
    """

    def __init__(self, memory: Memory = "auto") -> None:
        if memory not in get_args(Memory):
            raise ValueError(f"memory={memory!r} is unknown: use {', '.join(get_args(Memory))}.")
        self.memory = memory
        self._chosen: dict[Any, Memory] = {}

    def __call__(self, step: Step, params: Params, steps: int) -> Params:
        """Return the parameters after some steps.

        Args:
            step: Returns the parameters after one step, differentiably. It must depend on nothing
                that changes from step to step but the parameters, since steps are taken anew, in
                another order: whatever else does, such as a momentum, goes among them.
            params: Initial parameters by name.
            steps: Number of steps.
        """
        params = {name: per_task(value) for name, value in params.items()} if steps else params
        memory = self._choose(step, params, steps) if torch.is_grad_enabled() else "graph"
        if memory == "graph":
            for _ in range(steps):
                params = step(params)
            return params
        return _walk(step, params, steps, every=1 if memory == "steps" else isqrt(steps - 1) + 1)

    def _choose(self, step: Step, params: Params, steps: int) -> Memory:
        if self.memory != "auto" or steps <= FEW:
            return "graph" if self.memory == "auto" or steps < 2 else self.memory
        batch = active_batch()
        tasks = 1 if batch is None else len(batch)
        key = (steps, tasks, *(value.shape for value in params.values()))
        if key not in self._chosen:
            device = next(iter(params.values())).device
            limit = SHARE * _memory(device)
            random = RandomState(device)
            graph = steps * _saved_bytes(step, params)
            random.restore()
            size = steps * tasks
            kept = size * sum(value.nbytes for value in params.values())
            self._chosen[key] = "graph" if graph <= limit else "steps" if kept <= limit else "sqrt"
        return self._chosen[key]


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _saved_bytes(step: Step, params: Params) -> int:
    """Return how much autograd keeps of one step, in bytes."""
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        # kept until all is counted: memory that is free already would count once more
        after = step({name: leaf_of(value) for name, value in params.items()})
        del after
    return sum(sizes.values())


def _walk(step: Step, params: Params, steps: int, every: int) -> Params:
    start = {name: leaf_of(value) for name, value in params.items()}
    random = RandomState(next(iter(params.values())).device)
    # one step with its graph, to see what else the outer gradient must reach
    captured = captured_leaves(step(start).values(), start.values())
    random.restore()
    walk = _Walk(step, params, steps, every)
    values = _walk_back(walk, *map(value_of, params.values()), *captured)
    return walk.named(values)


class _Walk:
    """One inner loop: forward from parameters to parameters, and back with a gradient."""

    def __init__(self, step: Step, params: Params, steps: int, every: int) -> None:
        self.step = step
        self.names = list(params)
        self.many = any(isinstance(value, TaskTensor) for value in params.values())
        self.device = next(iter(params.values())).device
        self.ends = [*range(0, steps, every), steps]
        self.batch = active_batch()
        device = self.device.type
        self.autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        self.kept: list[tuple[Sequence[Tensor], RandomState]] = []

    def named(self, values: Sequence[Tensor]) -> Params:
        if self.many:
            values = [TaskTensor(value, aliased=True) for value in values]
        return dict(zip(self.names, values, strict=True))

    def forward(self, values: Sequence[Tensor], steps: int) -> Sequence[Tensor]:
        for _ in range(steps):
            values = [value_of(v) for v in self.step(self.named(values)).values()]
        return values

    def begin(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """Go forward through all steps, keeping the parameters where a segment begins."""
        random = None
        for begin, end in pairwise(self.ends):
            random = RandomState(self.device, random)
            self.kept.append((values, random))
            values = self.forward(values, end - begin)
        return values

    def segments(self) -> Any:
        """Return parameters and random state before each step, from the last step to the first."""
        for (begin, end), (values, random) in zip(
            reversed(list(pairwise(self.ends))), reversed(self.kept), strict=True
        ):
            random.restore()
            within = [(values, random)]
            for _ in range(end - begin - 1):
                values = self.forward(values, 1)
                within.append((values, RandomState(self.device)))
            yield from reversed(within)

    def context(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.batch is None else self.batch.active()


class _WalkBack(Function):
    """The steps as one operation, which recomputes them one by one in the backward pass."""

    @staticmethod
    def forward(ctx: Any, walk: _Walk, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(walk.names)
        ctx.walk = walk
        ctx.save_for_backward(*tensors)  # so that a change in place is noticed
        return tuple(walk.begin(tensors[:count]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        walk = ctx.walk
        captured = ctx.saved_tensors[len(walk.names) :]
        totals: list[Tensor | None] = [None] * len(captured)
        enabled, dtype = walk.autocast
        with walk.context(), torch.autocast(walk.device.type, dtype=dtype, enabled=enabled):
            now = RandomState(walk.device)
            for values, random in walk.segments():
                random.restore()
                with torch.enable_grad():
                    leaves = [leaf_of(value) for value in values]
                    after = walk.forward(leaves, 1)
                found = torch.autograd.grad(
                    after, [*leaves, *captured], gradients, allow_unused=True, retain_graph=True
                )
                gradients = tuple(
                    torch.zeros_like(value) if g is None else g
                    for value, g in zip(values, found, strict=False)
                )
                totals = [_sum(t, g) for t, g in zip(totals, found[len(leaves) :], strict=True)]
            now.restore()
        return None, *gradients, *totals


_walk_back: Callable[..., tuple[Tensor, ...]] = _WalkBack.apply


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
