"""The contract of a metric: one value an episode."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class EpisodeMetric(nn.Module, ABC):
    """Maps outputs and labels of a meta-batch to one value an episode.

    Attributes:
        name: The key under which it is logged, `accuracy` in `val/accuracy`.
        higher_is_better: Whether a higher value is that of a better model.
    """

    name: str
    higher_is_better: bool = True

    @abstractmethod
    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode.

        Args:
            outputs: Query outputs of shape `(B, Q, K)`.
            y: True labels of shape `(B, Q)`, or float targets of shape `(B, Q, d)`.

        Returns:
            Values of shape `(B,)`, float32.
        """
