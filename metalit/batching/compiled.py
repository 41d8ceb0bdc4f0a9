"""The whole step of a meta-batch, forward and backward, as one compiled program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ..episodes import Episode, Samples
from .task_batch import TaskBatch
from .task_tensor import NotBatchableError

Gradients = Callable[[Episode, TaskBatch], Sequence[Tensor]]
"""Computes outputs, losses and gradients of the tasks of a meta-batch."""


class Compiled:
    """Compiles what computes gradients, once for every shape of episodes and set of parameters.

    The operations are recorded while the first meta-batch of a shape is computed, those of the
    inner gradients and of the outer one too, and `torch.compile` makes one program of them. The
    parameters are read anew each time; all else that the computation uses must be in the episodes.
    """

    def __init__(self) -> None:
        self._programs: dict[Any, Callable[..., Sequence[Tensor]]] = {}

    def __call__(
        self,
        gradients: Gradients,
        episodes: Episode,
        batch: TaskBatch,
        parameters: Sequence[Tensor],
    ) -> Sequence[Tensor]:
        """Return what `gradients`, of these parameters, returns for these episodes."""
        tensors = [tensor for part in episodes for tensor in part]
        device = batch.device.type
        key = (
            tuple((t.shape, t.dtype, t.device) for t in tensors),
            torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device),
            tuple(map(id, parameters)),  # others if layers are frozen later
        )
        if key not in self._programs:
            self._programs[key] = _compile(gradients, tensors, batch)
        with torch.no_grad():
            return self._programs[key](*tensors)


def _compile(
    gradients: Gradients, tensors: Sequence[Tensor], batch: TaskBatch
) -> Callable[..., Sequence[Tensor]]:
    def run(*values: Tensor) -> Sequence[Tensor]:
        support, query = Samples(*values[:2]), Samples(*values[2:])
        return gradients(Episode(support, query), batch)

    batch.recording = True
    try:
        graph = make_fx(run)(*tensors)
    except RuntimeError as error:
        raise NotBatchableError(f"it cannot be recorded: {str(error).splitlines()[0]}") from error
    if batch.has_drawn:
        raise NotBatchableError("random numbers would be the same in every step")
    program: Callable[..., Sequence[Tensor]] = torch.compile(graph, fullgraph=True, dynamic=False)
    return program
