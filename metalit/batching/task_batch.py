"""The tasks that run together, and what is random in each of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .rules import changed
from .task_tensor import TaskTensor, rule

_ACTIVE: ContextVar[TaskBatch | None] = ContextVar("_ACTIVE", default=None)


class TaskBatch:
    """T tasks that run together, each with random numbers of its own.

    Attributes:
        recording: Whether the operations are recorded to be compiled: none may depend on values.

    Args:
        seeds: One seed a task. A task draws the same numbers together with others as alone after
            `torch.manual_seed(seed)`.
        device: Where the tasks run.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.seeds = seeds
        self.device = device
        self.recording = False
        self._generators: list[torch.Generator] = []

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def generators(self) -> list[torch.Generator]:
        """One generator a task, made when it is needed."""
        if not self._generators:
            self._generators = [
                torch.Generator(self.device).manual_seed(seed) for seed in self.seeds
            ]
        return self._generators

    @property
    def has_drawn(self) -> bool:
        """Whether a task may have drawn random numbers."""
        return bool(self._generators)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let `per_task` and random operations know these tasks."""
        token = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(token)


def active_batch() -> TaskBatch | None:
    """Return the tasks that run together, None where one runs by itself."""
    return _ACTIVE.get()


def is_recording() -> bool:
    """Return whether operations are recorded, and may not depend on values."""
    batch = _ACTIVE.get()
    return batch is not None and batch.recording


def per_task(tensor: Tensor) -> Tensor:
    """Return a tensor of which every task has its own: one that all share is repeated.

    An inner loop takes what it changes through here. Where a task runs by itself, the tensor is
    returned as it is.
    """
    batch = _ACTIVE.get()
    if batch is None or isinstance(tensor, TaskTensor):
        return tensor
    return TaskTensor(tensor.expand(len(batch), *tensor.shape), aliased=True)


class RandomState:
    """The state of what random operations draw from, at the time when this is made.

    Args:
        device: A device that may be drawn from, beside the CPU.
        before: An earlier state, of which the memory is shared if nothing has been drawn since.
    """

    def __init__(self, device: torch.device, before: RandomState | None = None) -> None:
        self._batch = _ACTIVE.get()
        self._sources = (
            _default_generators(device) if self._batch is None else list(self._batch._generators)
        )
        self._states = [source.get_state() for source in self._sources]
        if before is not None and len(before._states) == len(self._states):
            self._states = [
                old if torch.equal(old, new) else new
                for old, new in zip(before._states, self._states, strict=True)
            ]

    def is_current(self) -> bool:
        """Return whether nothing has been drawn since."""
        states = [source.get_state() for source in self._sources]
        return all(map(torch.equal, states, self._states))

    def restore(self) -> None:
        """Go back to the state."""
        if self._batch is not None and not self._states:
            self._batch._generators = []  # none had been made: they start from their seeds
        for source, state in zip(self._sources, self._states, strict=True):
            source.set_state(state)


class OtherRandomState:
    """The state of the global random numbers of Python and numpy; no task has its own of them.

    Tasks that run one after another draw from them by turns.
    """

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy: Any = np.random.get_state()  # noqa: NPY002  # the global one is asked after

    def is_current(self) -> bool:
        """Return whether nothing has been drawn since."""
        now: Any = np.random.get_state()  # noqa: NPY002  # the global one is asked after
        same = all(np.array_equal(a, b) for a, b in zip(now, self._numpy, strict=True))
        return same and random.getstate() == self._python

    def restore(self) -> None:
        """Go back to the state."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)  # noqa: NPY002  # as above


def _default_generators(device: torch.device) -> list[torch.Generator]:
    if device.type == "cuda":
        return [torch.default_generator, torch.cuda.default_generators[device.index or 0]]
    return [torch.default_generator]


def seed_one(seed: int, device: torch.device) -> None:
    """Seed what a task that runs by itself draws from."""
    for generator in _default_generators(device):
        generator.manual_seed(seed)


@rule(F.dropout)
def _dropout(
    input: TaskTensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> TaskTensor:
    if not training or p == 0:
        return input
    batch = _ACTIVE.get()
    assert batch is not None
    if p == 1:
        result = input.value * 0.0
    else:
        # contiguous, as the values of a task by itself: numbers are drawn in the order of memory
        masks = [input.value.new_empty(input.shape) for _ in range(len(batch))]
        for mask, generator in zip(masks, batch.generators, strict=True):
            mask.bernoulli_(1 - p, generator=generator)
        result = input.value * torch.stack(masks).div_(1 - p)
    return changed(input, TaskTensor(result)) if inplace else TaskTensor(result)
