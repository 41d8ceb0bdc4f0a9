"""What keeps the outer loop finite: steps that are skipped, and states that are not saved."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer

from .batching import have_finite_norm

log = logging.getLogger(__name__)

LEAK = 10
"""Good steps that make up for one that was skipped."""

ADVICE = "lower lr of the inner loop or of the optimizer, or scale the data"


class StepGuard:
    """Says which outer steps are to be skipped, and when they have been too many.

    A step is skipped if its gradient is not finite, or if not one of its tasks had a finite loss
    and gradient. Skipped steps fill a leaky bucket: each adds 1, each good step takes 0.1 away. So
    a bad step now and then is forgiven for ever, and a run that is lost ends soon.

    Attributes:
        skipped: Steps skipped since training began.
        masked: Tasks left out of their steps, of all processes, that no logger has been told of.

    Args:
        max_skipped_steps: What the bucket holds; one step more ends the run.

    Raises:
        ValueError: If `max_skipped_steps` is negative.
    """

    def __init__(self, max_skipped_steps: int) -> None:
        if max_skipped_steps < 0:
            raise ValueError(
                f"max_skipped_steps={max_skipped_steps} should be 0 or more: 0 ends the run at the "
                "first step that is skipped."
            )
        self.max_skipped_steps = max_skipped_steps
        self.skipped = 0
        self.masked = 0
        self._level = 0  # of the bucket, in tenths, so that it is exact
        self._warned: set[str] = set()
        self._tasks = [0, 0]  # left out of the step that is under way, and all

    def add_tasks(self, masked: int, count: int) -> None:
        """Note how many tasks of a meta-batch have been left out."""
        self._tasks = [self._tasks[0] + masked, self._tasks[1] + count]

    def end_step(self, model: LightningModule, optimizer: Optimizer) -> dict[str, int]:
        """Take the gradients of a step away if it is to be skipped; return what is to be logged.

        Args:
            model: The model that is trained.
            optimizer: Its optimizer, which is about to step.

        Raises:
            ValueError: If the weights or the optimizer are not finite, which no step could mend.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        bad = not have_finite_norm([p.grad for p in parameters if p.grad is not None])
        masked, count, bads = _sum_over_processes(model, [*self._tasks, int(bad)])
        self._tasks = [0, 0]
        self.masked += masked
        if masked:
            self.warn_once(
                model,
                "masked",
                f"{masked} of {count} tasks of step {model.global_step} are left out, since their "
                "loss or gradient is not finite; train/masked_tasks counts such.",
            )
        # not where half precision scaled by too much: the scaler skips the step and scales less
        if (bads and not _is_scaled(model.trainer)) or 0 < count == masked:
            for parameter in parameters:
                parameter.grad = None  # of which an optimizer takes no notice
            self._skip(model, optimizer)
            return {"guard/skipped_steps": self.skipped}
        self._level = max(0, self._level - 1)
        return {}

    def _skip(self, model: LightningModule, optimizer: Optimizer) -> None:
        step = model.global_step
        self.skipped += 1
        self._level += LEAK
        check_finite(model, [optimizer], f"at step {step}")
        self.warn_once(
            model,
            "skipped",
            f"step {step} is skipped, since its meta-gradient is not finite; guard/skipped_steps "
            "counts such.",
        )

    def check_budget(self, step: int) -> None:
        """Raise a ValueError if too many steps have been skipped."""
        if self._level > LEAK * self.max_skipped_steps:
            raise ValueError(
                f"{self.skipped} steps had no finite meta-gradient, step {step} the last, but "
                f"max_skipped_steps={self.max_skipped_steps}: {ADVICE}."
            )

    def check_end(self, steps: int) -> None:
        """Raise a ValueError if none of all steps has changed anything."""
        if 0 < steps == self.skipped:
            raise ValueError(f"not one of {steps} steps had a finite meta-gradient: {ADVICE}.")

    def warn_once(self, model: LightningModule, kind: str, text: str) -> None:
        """Warn of each kind of trouble when it comes for the first time."""
        if kind not in self._warned and model.trainer.is_global_zero:
            log.warning(text)
        self._warned.add(kind)

    def state_dict(self, model: LightningModule) -> dict[str, int]:
        """Return what a resumed run must know, as JSON primitives; to be asked on all processes.

        Args:
            model: The model that is trained.
        """
        masked, count = _sum_over_processes(model, self._tasks)
        return {
            "skipped": self.skipped,
            "masked": self.masked,
            "level": self._level,
            "step_masked": masked,
            "step_count": count,
        }

    def load_state_dict(self, state: dict[str, int], model: LightningModule) -> None:
        """Go on from a state, an empty one if the checkpoint is of a time before there was any.

        Args:
            state: What `state_dict` returned.
            model: The model that is trained.
        """
        self.skipped = state.get("skipped", 0)
        self.masked = state.get("masked", 0)
        self._level = state.get("level", 0)
        # the tasks are those of all processes, and will be summed over them
        first = model._trainer is None or model._trainer.is_global_zero
        self._tasks = [state.get("step_masked", 0), state.get("step_count", 0)] if first else [0, 0]


def _sum_over_processes(model: LightningModule, numbers: list[int]) -> list[int]:
    if model._trainer is None or model._trainer.world_size == 1:
        return numbers
    counts = torch.tensor(numbers, dtype=torch.int64, device=model.device)
    total: Tensor = model._trainer.strategy.reduce(counts, reduce_op="sum")
    return [int(number) for number in total]


def _is_scaled(trainer: Trainer) -> bool:
    precision = trainer.precision_plugin
    scaler = precision.scaler if isinstance(precision, MixedPrecision) else None
    return scaler is not None and scaler.get_scale() > 1


def check_finite(model: nn.Module, optimizers: Iterable[Optimizer], when: str) -> None:
    """Raise a ValueError if weights, or what an optimizer remembers, are not finite.

    Infinity may stand in what is not trained, such as the mask of an attention.

    Args:
        model: The model.
        optimizers: Its optimizers.
        when: When this is, to be said.
    """
    weights: list[tuple[str, Tensor, bool]] = [(n, w, False) for n, w in model.named_buffers()]
    weights += [(n, w, w.requires_grad) for n, w in model.named_parameters()]
    memories = [memory for optimizer in optimizers for memory in optimizer.state.values()]
    for name, weight, trained in weights:
        if weight.isnan().any() or (trained and not weight.isfinite().all()):
            raise ValueError(f"{name} is not finite {when}: {ADVICE}.")
    for name, value in (item for memory in memories for item in memory.items()):
        if isinstance(value, Tensor) and value.ndim and not value.isfinite().all():
            raise ValueError(f"{name} of the optimizer is not finite {when}: {ADVICE}.")
