"""Plain gradient descent on the support loss."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .base import InnerLoop, Params, gradient
from .unrolling import Memory, Unrolling


class GradientDescent(InnerLoop):
    """A few steps of gradient descent: the inner loop of MAML (Finn et al., 2017).

    Each step is `p ← p - lr · ∇L(p)`. The outer gradient holds second derivatives of the support
    loss; with `first_order` the inner gradient is taken as a constant (FOMAML), which needs no
    graph of the inner loop.

    Args:
        lr: Step size of the inner loop, the paper's alpha; 0.4 for Omniglot, 0.01 for sinusoids.
        steps: Steps per episode in training; 0 trains one network for all tasks, without adapting
            it.
        eval_steps: Steps per episode in evaluation (`module.eval()`); `steps` if None. More steps
            than in training often help, because query accuracy goes on rising.
        first_order: Drop the second derivatives.
        memory: What is kept of the steps for the outer gradient: "graph", "steps", "sqrt" or
            "auto"; see `Unrolling`. With "steps" a hundred steps train in the memory of a few.
            Without effect if `first_order`, which keeps nothing.
        mixed_precision: Whether the steps, too, run in the mixed precision of the trainer, if it
            has one (`precision: bf16-mixed`); by default they stay in full precision, and the query
            set alone gains from it.

    Raises:
        ValueError: If `lr` is not positive, a number of steps is negative, or `memory` is unknown.

    Example:
        >>> loop = GradientDescent(lr=0.1, steps=2)
        >>> loop(lambda p: (p["w"] ** 2).sum(), {"w": torch.tensor([1.0])})["w"]
        tensor([0.6400])

    References:
        Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks,
        https://arxiv.org/abs/1703.03400
    """

    def __init__(
        self,
        lr: float,
        steps: int = 1,
        eval_steps: int | None = None,
        first_order: bool = False,
        memory: Memory = "auto",
        mixed_precision: bool = False,
    ) -> None:
        super().__init__()
        if not 0 < lr < math.inf:
            raise ValueError(f"lr={lr} of the inner loop must be positive, for example 0.01.")
        for name, value in (("steps", steps), ("eval_steps", eval_steps)):
            if value is not None and value < 0:
                raise ValueError(f"{name}={value} of the inner loop must be 0 or more.")
        self.lr = lr
        self.steps = steps
        self.eval_steps = eval_steps
        self.first_order = first_order
        self.memory = memory
        self.mixed_precision = mixed_precision
        self._unroll = Unrolling("graph" if first_order else memory)

    def forward(self, loss_fn: Callable[[Params], Tensor], params: Params) -> Params:
        """Return the parameters after `steps` steps (`eval_steps` in evaluation)."""
        steps = self.steps if self.training or self.eval_steps is None else self.eval_steps

        def step(params: Params) -> Params:
            with self._precision(params):
                gradients = gradient(loss_fn, params, self.first_order)
            return {
                name: torch.sub(value, gradients[name], alpha=self.lr)
                for name, value in params.items()
            }

        return self._unroll(step, params, steps)

    def _precision(self, params: Params) -> AbstractContextManager[Any]:
        device = next(iter(params.values())).device.type
        if self.mixed_precision or not torch.is_autocast_enabled(device):
            return nullcontext()
        return torch.autocast(device, enabled=False)
