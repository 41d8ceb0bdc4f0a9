"""The contract of an inner loop."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

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
