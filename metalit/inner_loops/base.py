"""The contract of an inner loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..batching import per_task
from .graph import captured_leaves, leaf_of

Params = dict[str, Tensor]
"""Parameters by name, as `torch.func.functional_call` takes them."""


class InnerLoop(nn.Module, ABC):
    """Adapts parameters to one task, differentiably: (loss function, parameters) → parameters.

    Attributes:
        eval_steps: Steps per episode in evaluation; None means as many as in training.
    """

    eval_steps: int | None = None

    @abstractmethod
    def forward(self, loss_fn: Callable[[Params], Tensor], params: Params) -> Params:
        """Return the fast parameters.

        Args:
            loss_fn: The support loss as a function of the parameters; returns a scalar.
            params: Initial parameters by name. They are read, never changed.

        Returns:
            Fast parameters under the same names, through which the outer gradient flows back to
            `params` and to the meta-parameters of the inner loop itself.
        """


def gradient(
    loss_fn: Callable[[Params], Tensor], params: Params, first_order: bool = False
) -> Params:
    """Return the gradient of a loss with regard to parameters, differentiable where it should be.

    Args:
        loss_fn: Returns a scalar.
        params: Parameters by name. The gradient is 0 for those that the loss does not use.
        first_order: Whether it is a constant for the outer gradient.
    """
    params = {name: per_task(value) for name, value in params.items()}
    graph = torch.is_grad_enabled() and not first_order
    # the fused attention of torch cannot be differentiated twice, that of plain operations can
    attention = sdpa_kernel(SDPBackend.MATH) if graph else nullcontext()
    with torch.enable_grad(), attention:
        inputs = {
            name: value if graph and value.requires_grad else leaf_of(value)
            for name, value in params.items()
        }
        loss = loss_fn(inputs)
        if graph and not any(value.requires_grad for value in params.values()):
            graph = bool(captured_leaves([loss], inputs.values()))  # else nothing is to be reached
        found = torch.autograd.grad(
            loss, list(inputs.values()), create_graph=graph, materialize_grads=True
        )
    return dict(zip(inputs, found, strict=True))
