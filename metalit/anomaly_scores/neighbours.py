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
        near, places = nearest(between), self._places(between)
        self.reach = near[:, self.lof - 1]  # distance of each row to its LOF-th neighbour, [N]
        self.density = self._density(between, places)
        spread = near[:, : self.sizes[-1]].mean(1)
        self.central = spread.argsort()[: max(2, round(KEPT * n))]
        self.scores = self._score(between, near, places)
        """Of the rows of the context, each without itself, shape `(N, 7)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Score rows that are not in the context, `(Q, D)`, as `(Q, 7)`."""
        between = distances(x, self.context, self.p)
        return self._score(between, nearest(between), self._places(between))

    def _score(self, between: Tensor, near: Tensor, places: Tensor) -> Tensor:
        means = [near[:, :k].mean(1) for k in self.sizes]
        factor = self.density[places].mean(1) / self._density(between, places)
        left = min(TRIM, len(self.central) - 1)
        trimmed = nearest(between[:, self.central])[:, :left].mean(1)
        return torch.stack([(s + FLOOR).log() for s in (*means, factor, trimmed)], dim=1)

    def _places(self, between: Tensor) -> Tensor:
        """The nearest rows of the context, `(Q, lof)`, in any order."""
        parted = np.argpartition(between.cpu().numpy(), self.lof - 1, axis=1)
        return torch.from_numpy(parted[:, : self.lof]).to(between.device)

    def _density(self, between: Tensor, places: Tensor) -> Tensor:
        """Local reachability density."""
        near = between.gather(1, places)
        return 1 / (torch.maximum(near, self.reach[places]).mean(1) + FLOOR)


def nearest(between: Tensor) -> Tensor:
    """Sort distances `(Q, N)` row by row."""
    # NumPy sorts whole rows in half the time that torch.topk takes to find a few
    return torch.from_numpy(np.sort(between.cpu().numpy(), axis=1)).to(between.device)


def distances(x: Tensor, context: Tensor, p: float = 2.0) -> Tensor:
    """Distances of rows `(Q, D)` to rows `(N, D)`, of shape `(Q, N)`."""
    return torch.cdist(x, context, p=p, compute_mode="use_mm_for_euclid_dist")
