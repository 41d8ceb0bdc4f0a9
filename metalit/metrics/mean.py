"""The mean over episodes and its confidence interval."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanWithInterval(NamedTuple):
    """What few-shot papers report: mean ± ci95.

    Attributes:
        mean: Mean over the episodes, a float64 scalar.
        ci95: Half the width of the 95 % confidence interval of the mean, a float64 scalar.
    """

    mean: Tensor
    ci95: Tensor


class MeanConfidence(Metric):
    """Mean over episodes ± 1.96 s / √n, where s is the sample standard deviation (n - 1).

    One episode has no spread to estimate: its ci95 is NaN; the mean of none is NaN too. Count, mean
    and sum of squared deviations are kept in float64 and merged pairwise, over batches and over
    processes, which stays exact where sums of squares cancel (Chan et al., 1979).

    Attributes:
        lost: In how many episodes the model has diverged.

    Args:
        worst: Which value stands in for those of episodes in which the model diverges, so that it
            does not look better for them. None leaves these out. Any other NaN makes the mean NaN.

    Example:
        >>> metric = MeanConfidence()
        >>> metric.update(torch.tensor([0.0, 1.0]))
        >>> round(metric.compute().ci95.item(), 3)
        0.98

    References:
        Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
        http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf
    """

    full_state_update = False
    moments: Tensor
    lost: Tensor
    extreme: Tensor

    def __init__(self, worst: Literal["lowest", "highest"] | None = None) -> None:
        super().__init__()
        self.worst = worst
        # [count, mean, sum of squared deviations]
        zero = torch.zeros(3, dtype=torch.float64)
        self.add_state("moments", default=zero, dist_reduce_fx=merge)
        self.add_state("lost", default=zero[0].clone(), dist_reduce_fx="sum")
        # the worst value so far, of which lower is worse: the sign makes that of the highest
        self.add_state("extreme", default=zero[0] + torch.inf, dist_reduce_fx="min")

    @property
    def count(self) -> Tensor:
        """Return the number of values, those of diverged episodes included."""
        return self.moments[0] + self.lost

    def update(self, values: Tensor, diverged: Tensor | None = None) -> None:
        """Add the values of a meta-batch.

        Args:
            values: Values of shape `(B,)`.
            diverged: For which episodes the worst value is to stand in, bool of shape `(B,)`;
                None for none.
        """
        values = values.detach().double()
        if diverged is not None and diverged.any():
            values = values[~diverged]
            self.lost = self.lost + diverged.sum()
        if self.worst is not None and len(values):
            self.extreme = torch.minimum(self.extreme, (self._sign * values).amin())
        moments = torch.stack([torch.ones_like(values), values, torch.zeros_like(values)], dim=-1)
        self.moments = merge(torch.cat([self.moments[None], moments]))

    def compute(self) -> MeanWithInterval:
        """Return the mean and the half-width of its interval."""
        moments = self.moments
        if self.worst is not None and self.lost > 0 and self.extreme.isfinite():
            replaced = [self.lost, self._sign * self.extreme, torch.zeros_like(self.lost)]
            moments = merge(torch.stack([moments, torch.stack(replaced)]))
        n, mean, squares = moments.unbind()
        deviation = (squares / (n - 1)).sqrt()
        nan = torch.full_like(mean, torch.nan)
        return MeanWithInterval(
            torch.where(n > 0, mean, nan),
            torch.where(n > 1, 1.96 * deviation / n.sqrt(), nan),
        )

    @property
    def _sign(self) -> int:
        return -1 if self.worst == "highest" else 1


def merge(moments: Tensor) -> Tensor:
    """Merge rows of (count, mean, sum of squared deviations), shape `(R, 3)`, into one, `(3,)`."""
    n, mean, squares = moments.unbind(-1)
    total = n.sum()
    weights = n / total.clamp(min=1)
    origin = mean[n.argmax()]  # so that equal means merge without rounding
    centre = origin + (weights * (mean - origin)).sum()
    deviations = squares.sum() + (n * (mean - centre).square()).sum()
    return torch.stack([total, centre, deviations])
