"""Anomaly scores from distances to the nearest rows of a context, for one matrix of distances."""

import numpy as np
import torch
from torch import Tensor

FLOOR = 1e-6  # added to distances before the logarithm, in standard deviations
LOF = 20  # neighbours of the local outlier factor
TRIM = 5  # neighbours among the rows that are left of a trimmed context
KEPT = 0.7  # share of the context that trimming leaves


class NeighbourScores:
    """Logarithms of distances to neighbours in a context, and of the local outlier factor.

    Five mean distances to the k nearest rows of the context, where k is 1, 5, 20, a tenth and three
    tenths of the context (small ones find anomalies near dense normal rows, large ones do not take
    a small cluster of anomalies in the context for normal); the local outlier factor (Breunig et
    al., 2000) with 20 neighbours; and the mean distance to 5 neighbours among the 70 % of the
    context whose distance to three tenths of the context is the smallest, where few anomalies are
    left. A row of the context is never its own neighbour.

    Args:
        context: Rows of shape `(N, D)`, N at least 2.
        p: Order of the distance, 1 or 2.

    References:
        LOF: Identifying Density-Based Local Outliers, https://doi.org/10.1145/335191.335388
    """

    NAMES = ("1", "5", "20", "tenth", "three_tenths", "lof", "trimmed")

    def __init__(self, context: Tensor, p: float) -> None:
        self.context = context
        self.p = p
        n = len(context)
        self.sizes = [min(k, n - 1) for k in (1, 5, LOF, max(1, n // 10), max(1, 3 * n // 10))]
        self.lof = min(LOF, n - 1)
        between = distances(context, context, p).fill_diagonal_(torch.inf)
        near = nearest(between)
        self.reach = near[:, self.lof - 1]  # distance of each row to its LOF-th neighbour, [N]
        self.density = self._density(_Neighbourhoods(between, self.reach))
        spread = near[:, : self.sizes[-1]].mean(1)
        self.central = spread.argsort()[: max(2, round(KEPT * n))]
        self.near = near[:, : self.sizes[-1]].clone()
        """Distances of the rows of the context to the nearest three tenths of it, ascending."""
        self.scores = self._score(between, near)
        """Of the rows of the context, each without itself, shape `(N, 7)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Score rows that are not in the context, `(Q, D)`, as `(Q, 7)`."""
        between = distances(x, self.context, self.p)
        return self._score(between, nearest(between))

    def _score(self, between: Tensor, near: Tensor) -> Tensor:
        means = [near[:, :k].mean(1) for k in self.sizes]
        around = _Neighbourhoods(between, near[:, self.lof - 1])
        factor = around.mean(self.density[around.places]) / self._density(around)
        left = min(TRIM, len(self.central) - 1)
        trimmed = nearest(between[:, self.central])[:, :left].mean(1)
        found = torch.stack([*means, factor, trimmed], dim=1)
        return (found.double() + FLOOR).log()

    def _density(self, around: "_Neighbourhoods") -> Tensor:
        """Local reachability density."""
        reached = torch.maximum(around.distances, self.reach[around.places])
        return 1 / (around.mean(reached) + FLOOR)


class _Neighbourhoods:
    """Pairs of a row and a row of the context that are no further apart than a radius.

    As in the paper, of neighbours at the same distance all are taken. To compare all distances with
    that of the last neighbour takes a third of the time of finding places by a partial sort.

    Args:
        between: Distances `(Q, N)`.
        radii: Of each row, `(Q,)`, not smaller than its smallest distance.
    """

    def __init__(self, between: Tensor, radii: Tensor) -> None:
        within = (between <= radii[:, None]).flatten().nonzero().squeeze(1)
        self.rows = within.div(between.shape[1], rounding_mode="floor")
        self.places = within - self.rows * between.shape[1]
        self.distances = between.flatten()[within]
        self.sizes = torch.bincount(self.rows, minlength=len(between))

    def mean(self, values: Tensor) -> Tensor:
        """Average `(pairs,)` over the neighbourhood of each row, `(Q,)`."""
        return torch.bincount(self.rows, values, minlength=len(self.sizes)) / self.sizes


def nearest(between: Tensor) -> Tensor:
    """Sort distances `(Q, N)` row by row."""
    # NumPy sorts whole rows in half the time that torch.topk takes to find a few
    return torch.from_numpy(np.sort(between.cpu().numpy(), axis=1)).to(between.device)


def distances(x: Tensor, context: Tensor, p: float = 2.0) -> Tensor:
    """Distances of rows `(Q, D)` to rows `(N, D)`, of shape `(Q, N)`, float32.

    They are sorted in half the time of float64, in which they are computed, since the difference
    of two squares would lose the distances of rows that are close.
    """
    return torch.cdist(x, context, p=p, compute_mode="use_mm_for_euclid_dist").float()
