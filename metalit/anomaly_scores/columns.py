"""Anomaly scores from single columns: tails and histograms."""

import torch
from torch import Tensor

SMALLEST, LARGEST = 5, 20  # bins of a histogram: the root of the rows, between these
HALF = 0.5  # rows counted where there are none


class SortedColumns:
    """The columns of a context, sorted, so that places in them are found by bisection.

    Args:
        context: Rows of shape `(N, D)`.
    """

    def __init__(self, context: Tensor) -> None:
        self.sorted = context.sort(dim=0).values
        self._columns = self.sorted.T.contiguous()

    def positions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Count the rows of the context below, and up to, each value of x `(Q, D)`."""
        values = x.T.contiguous()
        below = torch.searchsorted(self._columns, values)
        up_to = torch.searchsorted(self._columns, values, right=True)
        return below.T, up_to.T


class ColumnScores:
    """Four scores of which each looks at one column at a time.

    - ECOD (Li et al., 2022): the sum over columns of the negative logarithms of the tail
      probabilities: of left tails, of right tails, or of the tail on the side that a column is
      skewed to, whichever sum is largest. Its logarithm.
    - The largest absolute standardised value, its logarithm.
    - The largest negative logarithm of a tail probability.
    - HBOS (Goldstein and Dengel, 2012): the sum of negative logarithms of histogram densities.

    Differs from the papers: a histogram has the root of N bins, 5 to 20; what lies outside of it,
    and an empty bin, count half a row; and of the bin of a row of the context the row itself is
    taken out.

    Args:
        context: Standardised rows of shape `(N, D)`.
        columns: The same rows, sorted.

    References:
        ECOD, https://arxiv.org/abs/2201.00382; Histogram-based Outlier Score (HBOS), KI 2012.
    """

    NAMES = ("ecod", "largest", "rarest", "hbos")

    def __init__(self, context: Tensor, columns: SortedColumns) -> None:
        self.columns = columns
        n = len(context)
        self.rows = n
        self.skewed_left = context.pow(3).mean(0) < 0
        self.bins = min(LARGEST, max(SMALLEST, int(n**0.5)))
        self.low, self.high = columns.sorted[0], columns.sorted[-1]
        span = self.high - self.low
        self.width = torch.where(span > 0, span / self.bins, 1.0)
        places = self._bins(context)
        self.counts = torch.zeros(
            self.bins, context.shape[1], dtype=context.dtype, device=context.device
        ).scatter_add_(0, places, torch.ones_like(context))
        self.scores = self._score(context, self.counts.gather(0, places) - 1)
        """Of the rows of the context, shape `(N, 4)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Score rows that are not in the context, `(Q, D)`, as `(Q, 4)`."""
        inside = (x >= self.low) & (x <= self.high)
        return self._score(x, self.counts.gather(0, self._bins(x)) * inside)

    def _bins(self, x: Tensor) -> Tensor:
        return ((x - self.low) / self.width).floor().clamp(0, self.bins - 1).long()

    def _score(self, x: Tensor, neighbours: Tensor) -> Tensor:
        below, up_to = self.columns.positions(x)
        left = -(up_to.to(x.dtype).clamp_min(HALF) / self.rows).log()
        right = -((self.rows - below).to(x.dtype).clamp_min(HALF) / self.rows).log()
        skewed = torch.where(self.skewed_left, left, right)
        ecod = torch.stack([t.sum(1) for t in (left, right, skewed)]).amax(0)
        hbos = -((neighbours + HALF) / self.rows).log().sum(1)
        largest = (x.abs().amax(1) + 1e-3).log()
        rarest = torch.maximum(left, right).amax(1)
        return torch.stack([(ecod + 0.1).log(), largest, rarest, hbos], dim=1)
