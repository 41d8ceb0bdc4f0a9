"""Fifty classical anomaly scores of one table, from a few shared computations."""

import torch
from torch import Tensor

from .columns import ColumnScores, SortedColumns
from .dependence import DependenceScores
from .neighbours import NeighbourScores
from .representations import Representations, location_and_scale

NEIGHBOURS = NeighbourScores.NAMES
FARTHEST = 1e4  # standardised values are clipped here: their squares lose no digits to each other


class AnomalyScores:
    """Classical anomaly scores of rows with respect to a context.

    Columns are standardised; then come distances to neighbours in six representations, tails and
    histograms of single columns, and linear dependence between columns: `NAMES`. All are larger
    for rows that are more anomalous. Nothing is random, and the order of rows and of columns
    changes nothing but rounding.

    Args:
        context: Rows of shape `(N, D)`, N at least 2, finite.

    Example:
        >>> context = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
        >>> scores = AnomalyScores(context)
        >>> low, high = scores(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 5.0]]))
        >>> (high > low).float().mean() > 0.9
        tensor(True)
    """

    REPRESENTATIONS = tuple(name for name, _ in Representations.ORDERS)
    NAMES = (
        *(f"{name}_{score}" for name, _ in Representations.ORDERS for score in NEIGHBOURS),
        *ColumnScores.NAMES,
        *DependenceScores.NAMES,
    )

    def __init__(self, context: Tensor) -> None:
        context = context.double()
        self.mean, self.scale = location_and_scale(context)
        table = self._standardise(context)
        columns = SortedColumns(table)
        self.representations = Representations(table, columns)
        rows = self.representations(table)
        self.neighbours = [
            NeighbourScores(part, p)
            for part, (_, p) in zip(rows, Representations.ORDERS, strict=True)
        ]
        self.columns = ColumnScores(table, columns)
        self.dependence = DependenceScores(self.representations, rows)
        near = [part.scores for part in self.neighbours]
        self.scores = torch.cat([*near, self.columns.scores, self.dependence.scores], dim=1)
        """Of the rows of the context, each left out of its neighbours, shape `(N, K)`."""
        self.descriptors = self._describe(table, rows[0])
        """Logarithms of rows, columns and effective dimension, and three more, shape `(6,)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Score rows that are not in the context, `(Q, D)`, as `(Q, K)`."""
        table = self._standardise(x.double())
        rows = self.representations(table)
        near = [score(part) for score, part in zip(self.neighbours, rows, strict=True)]
        return torch.cat([*near, self.columns(table), self.dependence(rows)], dim=1)

    def represent(self, x: Tensor) -> list[Tensor]:
        """Return rows `(Q, D)` in each of `REPRESENTATIONS`."""
        return self.representations(self._standardise(x.double()))

    def _standardise(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)

    def _describe(self, table: Tensor, projected: Tensor) -> Tensor:
        variances = self.representations.variances
        share = variances / variances.sum().clamp_min(1e-9)
        effective = 1 / share.square().sum().clamp_min(1e-9)
        levels = (self.columns.columns.sorted.diff(dim=0) > 0).sum(0) + 1
        tails = projected.pow(4).mean(0).clamp_max(1e4).mean()
        n, d = table.new_tensor(float(len(table))), table.new_tensor(float(table.shape[1]))
        few = (levels <= 10).to(table.dtype).mean()
        explained = self.representations.explained.mean()
        return torch.stack([n.log(), d.log(), effective.log(), explained, few, tails.log1p()])
