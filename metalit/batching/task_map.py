"""How a function of one task is applied to all tasks of a meta-batch."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.linalg import LinAlgError  # type: ignore[attr-defined] # which is documented
from torch.nn.modules.module import register_module_buffer_registration_hook

from ..episodes import Episode, each
from .allocator import keep_freed_memory
from .compiled import Compiled
from .finite import have_finite_norm
from .task_batch import OtherRandomState, RandomState, TaskBatch, seed_one
from .task_tensor import NotBatchableError, TaskTensor

Mode = Literal["auto", "loop", "batched"]
"""Whether tasks run one after another, several at once, or several at once where that can be."""

OneTask = Callable[[Episode], tuple[Tensor, ...]]
"""What is done for one episode; returns tensors."""

FEWEST = 4
"""Tasks that run together on a CPU, however large they are."""

TOGETHER = 2**21
"""Bytes of the support and query inputs of tasks that run together on a CPU, if small: more tasks
would not make it faster, and their activations, many times larger, would take more memory."""

_log = logging.getLogger(__name__)


class MeanLoss(NamedTuple):
    """The loss of a meta-batch.

    Attributes:
        outputs: Outputs of all B tasks, detached.
        loss: Mean loss of the tasks that are kept, a scalar; NaN if there is none.
        kept: Whether each task has a finite loss and gradient, bool of shape `(B,)`, on the CPU.
    """

    outputs: Tensor
    loss: Tensor
    kept: Tensor


class TaskMap:
    """Applies a function of one episode to a meta-batch of them.

    In the loop, the function sees one episode after another. Batched, it is called once for
    several, with a `TaskTensor` in the place of each tensor. Both give the same numbers, up to
    rounding.

    Args:
        mode: "loop", "batched", or "auto": batched, unless the function does something that cannot
            be done for many tasks at once; then the loop, and a debug message says why.
        chunk: Tasks that run together, and whose graph is in memory at a time. If None: one in the
            loop; on a GPU all; on a CPU four, or as many as have inputs of 2 MiB together.
        compiled: Whether training steps are compiled; they run batched then. The first step of
            every shape takes from half a minute to several, the more inner steps the longer.

    Raises:
        ValueError: If an argument is out of range, or the loop is to be compiled.
    """

    def __init__(
        self, mode: Mode = "auto", chunk: int | None = None, compiled: bool = False
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"tasks={mode!r} is unknown: use {', '.join(get_args(Mode))}.")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk={chunk} should be 1 task or more.")
        if compiled and mode == "loop":
            raise ValueError("tasks='loop' cannot be compiled: use 'batched', or compiled=False.")
        self.mode = "batched" if compiled else mode
        self.chunk = chunk
        self._compiled = Compiled() if compiled else None
        self._served = False  # whether tasks have run batched
        self._warned = False  # that a task has no answer

    def __call__(
        self, function: OneTask, episodes: Episode, seeds: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """Return the results of all episodes, each stacked along a first dimension.

        Those of an episode for which torch.linalg finds no solution, as of a singular matrix, are
        NaN, and a warning says so once.

        Args:
            function: Returns tensors for one episode.
            episodes: A meta-batch of B episodes.
            seeds: Seeds of what is random in each episode, B of them; drawn from torch's global
                generator if None.

        Raises:
            LinAlgError: If there is no solution for any episode.
        """
        if seeds is None:
            seeds = torch.randint(2**62, (len(episodes.support.x),)).tolist()
        return _concatenate([*self._parts(partial(self._run, function), episodes, seeds)])

    def mean_loss(
        self,
        function: Callable[[Episode], tuple[Tensor, Tensor]],
        episodes: Episode,
        seeds: Sequence[int],
        parameters: Sequence[Tensor],
    ) -> MeanLoss:
        """Return the outputs of all episodes and their mean loss.

        The gradient of each chunk is taken before the next one begins, so that the graph of one
        chunk is all that is in memory; `backward` of the loss then hands their sum on.

        A task whose loss or gradient is not finite, as where its inner loop diverges, or for which
        torch.linalg finds no solution, is left out: it adds exactly 0 to the gradient, which is the
        sum over the others divided by B, so that it does not depend on how tasks are divided into
        chunks and over processes. If a chunk is not finite, its tasks are run anew one by one,
        uncompiled, with the same random numbers.

        Args:
            function: Returns the outputs and the loss, a scalar, of one episode.
            episodes: See `__call__`.
            seeds: See `__call__`.
            parameters: The only tensors that the gradient of the loss can reach. It is 0, not None,
                for those that it does not, as several processes need it.
        """
        keep_freed_memory()
        run = partial(self._kept_gradients, function, parameters)
        return MeanLoss(*_mean_loss(lambda: self._parts(run, episodes, seeds), *parameters))

    def _parts(
        self,
        run: Callable[[Episode, Sequence[int]], Sequence[Tensor]],
        episodes: Episode,
        seeds: Sequence[int],
    ) -> Iterator["Sequence[Tensor] | _Lost"]:
        """Return the results of one chunk after another."""
        begin, size = 0, len(seeds)
        while begin < size:
            # asked for every chunk: after a first failure the mode is another
            end = min(size, begin + (self.chunk or self._usual_chunk(episodes)))
            part = each(episodes, itemgetter(slice(begin, end)))
            try:
                yield run(part, seeds[begin:end])
            except _NotThisTimeError:
                continue
            except LinAlgError as error:
                yield _Lost(end - begin, error)
            begin = end

    def _usual_chunk(self, episodes: Episode) -> int:
        """Return how many tasks run together where the user has not said it."""
        if self.mode == "loop":
            return 1
        inputs = [part.x for part in episodes]
        size = len(inputs[0])
        if inputs[0].device.type != "cpu":
            return size
        return max(FEWEST, TOGETHER * size // max(1, sum(x.nbytes for x in inputs)))

    def _run(
        self, function: OneTask, episodes: Episode, seeds: Sequence[int]
    ) -> tuple[Tensor, ...]:
        if self.mode == "loop":
            return self._looped(function, episodes, seeds)
        batch = TaskBatch(seeds, episodes.support.x.device)
        try:
            results = _batched(function, episodes, batch)
        except LinAlgError:  # it does not say of which task
            return self._looped(function, episodes, seeds)
        except Exception as error:  # the loop serves, or says in its own words what is wrong
            if self.mode == "batched":
                raise
            _log.debug("tasks run one after another: %s", error)
            if self._served:  # it was these values
                return self._looped(function, episodes, seeds)
            self.mode = "loop"
            raise _NotThisTimeError from error
        self._served = True
        return results

    def _kept_gradients(
        self,
        function: OneTask,
        parameters: Sequence[Tensor],
        episodes: Episode,
        seeds: Sequence[int],
    ) -> Sequence[Tensor]:
        """Return outputs, losses and which tasks are kept, and the gradients of these alone."""
        kept = torch.ones(len(seeds), dtype=torch.bool)
        with suppress(LinAlgError):
            outputs, losses, *gradients = self._gradients(function, parameters, episodes, seeds)
            if have_finite_norm(gradients, losses):
                return outputs, losses, kept, *gradients
            if self.mode == "loop" and len(seeds) == 1:
                return outputs, losses, ~kept, *map(torch.zeros_like, gradients)
        alone: list[Sequence[Tensor] | _Lost] = []
        totals: list[Tensor] = []
        for b, seed in enumerate(seeds):
            one = each(episodes, itemgetter(slice(b, b + 1)))
            try:
                with torch.enable_grad():
                    found = _differentiate(self._looped(function, one, [seed]), parameters)
            except LinAlgError as error:
                kept[b] = False
                alone.append(_Lost(1, error))
                continue
            kept[b] = have_finite_norm(found[2:], found[1])
            alone.append(found[:2])
            if len(found) > 2:  # the loss of one task may be constant
                totals = totals or [torch.zeros_like(gradient) for gradient in found[2:]]
            if len(found) > 2 and kept[b]:
                totals = [a + b for a, b in zip(totals, found[2:], strict=True)]
        return *_concatenate(alone), kept, *totals

    def _gradients(
        self,
        function: OneTask,
        parameters: Sequence[Tensor],
        episodes: Episode,
        seeds: Sequence[int],
    ) -> Sequence[Tensor]:
        """Return outputs and losses of the tasks, and the gradients of the sum of the losses."""

        def run(episodes: Episode, batch: TaskBatch | None = None) -> Sequence[Tensor]:
            with torch.enable_grad():
                if batch is None:
                    results = self._run(function, episodes, seeds)
                else:
                    results = _batched(function, episodes, batch)
                return _differentiate(results, parameters)

        if self._compiled is None:
            return run(episodes)
        batch = TaskBatch(seeds, episodes.support.x.device)
        return self._compiled(run, episodes, batch, parameters)

    def _looped(
        self, function: OneTask, episodes: Episode, seeds: Sequence[int]
    ) -> tuple[Tensor, ...]:
        device = episodes.support.x.device
        before = RandomState(device)
        results: list[Sequence[Tensor] | _Lost] = []
        try:
            for b, seed in enumerate(seeds):
                seed_one(seed, device)
                try:
                    found = function(each(episodes, itemgetter(b)))
                    results.append([tensor.unsqueeze(0) for tensor in found])
                except LinAlgError as error:
                    if not self._warned:
                        _log.warning("a task has no answer (%s): regularise it.", error)
                    self._warned = True
                    results.append(_Lost(1, error))
        finally:
            before.restore()
        return _concatenate(results)


class _NotThisTimeError(Exception):
    """Raised where a chunk has to be run anew, in another mode."""


class _Lost(NamedTuple):
    """Tasks for which there is no solution."""

    size: int
    error: LinAlgError


def _concatenate(parts: Sequence[Sequence[Tensor] | _Lost]) -> tuple[Tensor, ...]:
    """Concatenate results, with NaN for those of lost tasks; raise if nothing else is there."""
    known = next((part for part in parts if not isinstance(part, _Lost)), None)
    for part in parts:
        if isinstance(part, _Lost) and not (known and all(map(torch.is_floating_point, known))):
            raise part.error
    assert known is not None
    rows = (
        [t.new_full((part.size, *t.shape[1:]), torch.nan) for t in known]
        if isinstance(part, _Lost)
        else part
        for part in parts
    )
    return tuple(torch.cat(results) for results in zip(*rows, strict=True))


class _MeanLoss(Function):
    """The mean loss of all parts, whose gradients are taken while they are made."""

    @staticmethod
    def forward(
        ctx: Any, parts: Callable[[], Iterator[Sequence[Tensor] | _Lost]], *parameters: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        results: list[Sequence[Tensor] | _Lost] = []
        found: list[Tensor] = []
        totals: list[Tensor] = []
        for part in parts():
            if isinstance(part, _Lost):
                results.append(part)
                found.append(torch.zeros(part.size, dtype=torch.bool))
                continue
            outputs, losses, kept, *gradients = part
            results.append((outputs, losses))
            found.append(kept)
            if totals and gradients:  # a chunk whose loss is constant has none
                totals = [a + b for a, b in zip(totals, gradients, strict=True)]
            totals = totals or gradients
        all_kept = torch.cat(found)
        if all(isinstance(part, _Lost) for part in results):
            all_outputs = all_losses = parameters[0].new_full(all_kept.shape, torch.nan)
            totals = [torch.zeros_like(parameter) for parameter in parameters]
        else:
            all_outputs, all_losses = _concatenate(results)
        loss = (all_losses if all_kept.all() else all_losses[all_kept]).mean()
        # without a gradient the loss is a number alone, and `backward` an error of torch's
        ctx.mark_non_differentiable(all_outputs, all_kept, *([] if totals else [loss]))
        ctx.save_for_backward(*(total / len(all_losses) for total in totals))
        return all_outputs, loss, all_kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor, g: Tensor, __: Tensor) -> Any:
        return None, *(g * gradient for gradient in ctx.saved_tensors)


_mean_loss: Callable[..., tuple[Tensor, Tensor, Tensor]] = _MeanLoss.apply


def _differentiate(results: tuple[Tensor, ...], parameters: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return outputs and losses, and the gradients of the sum of the losses, if it has any."""
    outputs, losses = results
    if not losses.requires_grad:
        return results
    found = torch.autograd.grad(losses.sum(), parameters, materialize_grads=True)
    return outputs.detach(), losses.detach(), *found


def _batched(function: OneTask, episodes: Episode, batch: TaskBatch) -> tuple[Tensor, ...]:
    before = RandomState(batch.device), OtherRandomState()
    try:
        with batch.active(), register_module_buffer_registration_hook(_check_buffer):
            results = function(each(episodes, lambda t: TaskTensor(t, aliased=True)))
    finally:
        drawn = [state for state in before if not state.is_current()]
        for state in drawn:
            state.restore()
    if drawn:
        raise NotBatchableError("random numbers are drawn that would be those of all tasks")
    return tuple(
        r.value if isinstance(r, TaskTensor) else r.expand(len(batch), *r.shape) for r in results
    )


def _check_buffer(module: nn.Module, name: str, buffer: Tensor | None) -> None:
    """Refuse that a module keeps what it has seen of a task: there are many tasks now."""
    if isinstance(buffer, TaskTensor):
        raise NotBatchableError(f"{type(module).__name__} assigns its buffer {name!r} anew")
