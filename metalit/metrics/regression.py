"""The error of a regression."""

from torch import Tensor

from .base import EpisodeMetric


class MeanSquaredError(EpisodeMetric):
    """Squared error, averaged over the rows and targets of an episode.

    Raises:
        ValueError: When called, if the outputs and the targets differ in shape.
    """

    name = "mean_squared_error"
    higher_is_better = False

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode; outputs and y `(B, Q, d)`, returns `(B,)`."""
        if outputs.shape != y.shape:
            raise ValueError(
                f"got outputs of shape {tuple(outputs.shape)} and targets of shape "
                f"{tuple(y.shape)} but both must be (B, Q, d): give the network d outputs."
            )
        return (outputs - y).square().flatten(1).mean(1).float()
