"""One table in six representations, in each of which distances say something else."""

import torch
from torch import Tensor

from .columns import SortedColumns

WIDEST = 200  # columns that distances are taken in; more are projected
RIDGE = 0.1  # added to the variances before whitening, as a share of their mean
SHRINKAGE = 0.05  # added to the correlations before they are inverted


class Representations:
    """Rows as seen from a context, for distances.

    - "standard": standardised columns, "manhattan" the same, for absolute differences;
    - "rank": ranks in the column among the context, as quantiles of the normal distribution, which
      no scale and no heavy tail of a column changes;
    - "whitened": principal components of variance about 1, which shows departures from how columns
      depend on each other;
    - "logarithmic": `sign(x) log(1 + |x|)` of the standardised columns, for heavy tails;
    - "relevant": each standardised column times the root of the share of its variance that the
      others explain, which makes columns of noise small.

    A table of more than 200 columns is first projected onto its 199 largest principal components,
    with the length of what is left as the last column; ranks give way to logarithms then.

    Args:
        context: Standardised rows of shape `(N, D)`, float64.
        columns: The same rows, sorted.
    """

    ORDERS = (
        ("standard", 2.0),
        ("manhattan", 1.0),
        ("rank", 1.0),
        ("whitened", 2.0),
        ("logarithmic", 2.0),
        ("relevant", 2.0),
    )

    def __init__(self, context: Tensor, columns: SortedColumns) -> None:
        self.columns = columns
        self.axes = _principal_axes(context, WIDEST - 1) if context.shape[1] > WIDEST else None
        table = self.project(context)
        n, d = table.shape
        covariance = table.T @ table / n
        self.variances, vectors = torch.linalg.eigh(covariance)
        self.variances = self.variances.clamp_min(0)
        ridge = RIDGE * self.variances.mean() + 1e-6
        self.whitening = vectors / (self.variances + ridge).sqrt()
        self.shrunk = covariance + SHRINKAGE * torch.eye(d, dtype=table.dtype, device=table.device)
        self.precision = torch.linalg.inv(self.shrunk)
        explained = 1 - 1 / (self.precision.diagonal() * self.shrunk.diagonal())
        self.explained = explained.clamp(0, 1)
        """Share of the variance of each column that the others explain, shape `(D,)`."""
        ranks = self._normal_ranks(context)
        self.rank_mean, self.rank_scale = ranks.mean(0), _scale(ranks)

    def project(self, x: Tensor) -> Tensor:
        """Standardised rows in at most 200 columns."""
        if self.axes is None:
            return x
        inside = x @ self.axes
        outside = (x.square().sum(1) - inside.square().sum(1)).clamp_min(0).sqrt()
        return torch.cat([inside, outside[:, None]], dim=1)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Return standardised rows `(Q, D)` in each representation, in the order of `ORDERS`."""
        table = self.project(x)
        ranks = (self._normal_ranks(x) - self.rank_mean) / self.rank_scale
        relevant = table * (self.explained + 0.02).sqrt()
        return [table, table, ranks, table @ self.whitening, _logarithms(table), relevant]

    def _normal_ranks(self, x: Tensor) -> Tensor:
        if self.axes is not None:
            return _logarithms(self.project(x))
        n = len(self.columns.sorted)
        below, up_to = self.columns.positions(x)
        shares = ((below + up_to).to(x.dtype) / (2 * n)).clamp(0.5 / n, 1 - 0.5 / n)
        ranks: Tensor = torch.special.ndtri(shares)
        return ranks


def location_and_scale(table: Tensor) -> tuple[Tensor, Tensor]:
    """Means of columns, and standard deviations, 1 for those that are constant up to rounding."""
    mean, deviation = table.mean(0), table.std(0, correction=0)
    return mean, torch.where(deviation > 1e-8 * (1 + mean.abs()), deviation, 1.0)


def _logarithms(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def _scale(x: Tensor) -> Tensor:
    """Standard deviations of columns, 1 for those that are constant."""
    deviation = x.std(0, correction=0)
    return torch.where(deviation > 1e-8, deviation, 1.0)


def _principal_axes(context: Tensor, largest: int) -> Tensor:
    """Axes of the largest variances, `(D, at most largest)`, from the smaller of two products."""
    n, d = context.shape
    values, vectors = torch.linalg.eigh(context @ context.T if n < d else context.T @ context)
    kept = values > 1e-9 * values[-1]
    values, vectors = values[kept][-largest:], vectors[:, kept][:, -largest:]
    axes: Tensor = context.T @ vectors / values.sqrt() if n < d else vectors
    return axes
