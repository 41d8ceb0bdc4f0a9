"""Anomaly scores as ratios of densities."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

RARE = 20.0  # score above which the logarithm of the ratio is linear


class DensityRatio(nn.Module):
    """Fits the ratio of the densities of rows and of a reference sample (Sugiyama et al., 2012).

    The score s stands for the ratio r = softplus(-s) / log 2 of the density of the rows to that of
    the reference: what is rarer among the rows than in the reference scores above 0. Where rows are
    rare s grows as -log r does; where they are dense r is linear in s, since with r = exp(-s) a few
    steps of gradient descent overflow. The loss is the matching of r by Basu's power divergence,
    `mean over reference of r^(1+a) - mean over rows of ((1+a) r^a - 1) / a`, which needs neither of
    the densities. `power` a = 1 is the least-squares fit of uLSIF, a = 0 (in the limit) the
    Kullback-Leibler fit of KLIEP; in between, outliers among the rows count less than for KLIEP.

    The reference can be artificial: `metalit.learners.SelfSupervised` adds it to the support set,
    with `ArtificialOutliers` (against which the score is a density) or `ShuffledColumns` (against
    which only dependencies count).

    Differs from uLSIF and KLIEP: the ratio is that of a network, not a sum of kernels, so there is
    no closed form; KLIEP's constraint that r has mean 1 in the reference is a penalty.

    Args:
        power: The a above, 0 or more.

    Raises:
        ValueError: If the power is negative, or, when called, if there is more than one output.

    Example:
        >>> round(DensityRatio()(torch.zeros(3, 1), torch.tensor([0, 0, 1])).item(), 6)  # 1 - 2 + 1
        0.0

    References:
        Density-ratio matching under the Bregman divergence,
        https://doi.org/10.1007/s10463-011-0343-8
        A Least-squares Approach to Direct Importance Estimation,
        https://www.jmlr.org/papers/v10/kanamori09a.html
    """

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        if power < 0:
            raise ValueError(f"power={power} must be 0 (KLIEP) or more, such as 1 (uLSIF).")
        self.power = power

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar; 0 where the ratio is 1 everywhere.

        Args:
            input: Scores of shape `(N, 1)`, higher for more anomalous.
            target: 0 for rows, 1 for the reference, -1 for what is ignored, of shape `(N,)`.
        """
        # softplus(-s) comes so near to exp(-s) that it is lost in rounding, and then to 0
        rare = input > RARE
        log_ratio = torch.where(rare, -input, softplus(-input.clamp(max=RARE)).log())
        log_ratio = log_ratio - math.log(math.log(2))
        if self.power == 0:
            gain = 1 + log_ratio
        else:
            gain = ((1 + self.power) * (self.power * log_ratio).exp() - 1) / self.power
        cost = ((1 + self.power) * log_ratio).exp()
        return mean_of(cost, target == 1) - mean_of(gain, target == 0)


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of values of shape `(N, 1)` over the chosen rows `(N,)`, 0 if there are none."""
    if values.shape[-1] != 1:
        raise ValueError(
            f"got outputs of shape {tuple(values.shape)} but an anomaly score is one number: "
            "give the network 1 output."
        )
    weights = chosen.to(values.dtype)
    return (weights * values.squeeze(-1)).sum() / weights.sum().clamp(min=1)
