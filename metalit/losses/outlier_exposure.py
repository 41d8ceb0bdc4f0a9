"""Anomaly scores learned from artificial outliers."""

from torch import Tensor, nn
from torch.nn.functional import softplus

from .density_ratio import mean_of


class OutlierExposure(nn.Module):
    """Logistic loss that sets rows apart from outliers (Hendrycks et al., 2019).

    `mean over rows of log(1 + exp(s)) + weight · mean over outliers of log(1 + exp(-s))`. The
    outliers need not be real: `metalit.learners.SelfSupervised` adds artificial ones to the support
    set. At its optimum, with `weight=1`, the score s is the log-ratio of the densities of outliers
    and rows, so it is the logistic member of the losses of `DensityRatio`.

    Differs from the paper: its outliers are other natural data, and its losses those of
    classifiers and density models, to which it is added; here the score itself is what is trained.

    Args:
        weight: Weight of the outliers, the paper's lambda.

    Raises:
        ValueError: If the weight is negative, or, when called, if there is more than one output.

    Example:
        >>> import torch
        >>> round(OutlierExposure()(torch.zeros(3, 1), torch.tensor([0, 0, 1])).item(), 3)
        1.386

    References:
        Deep Anomaly Detection with Outlier Exposure, https://arxiv.org/abs/1812.04606
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight={weight} of the outliers must be 0 or more, such as 0.5.")
        self.weight = weight

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            input: Scores (logits) of shape `(N, 1)`, higher for more anomalous.
            target: 0 for rows, 1 for outliers, -1 for what is ignored, of shape `(N,)`.
        """
        rows = mean_of(softplus(input), target == 0)
        return rows + self.weight * mean_of(softplus(-input), target == 1)
