"""Anomaly scores of a set of query rows judged together: where it is denser than the context."""

import torch
from torch import Tensor

from .base import AnomalyScores
from .neighbours import FLOOR, distances, nearest

PLACES = (0, 3, 4, 5)  # the representations with a Euclidean distance
SHARES = (0.05, 0.2)  # neighbours, as a share of the context and of the query


class ShiftScores:
    """Logarithms of the ratio of the density of a query to that of its context.

    Where a query has many anomalies, they lie close to each other and far from the context. The
    score is the logarithm of the mean distance to the nearest rows of the context less that to the
    nearest rows of the query (a density ratio by neighbours; Wang et al., 2006), in four
    representations and with two numbers of neighbours: a share of the rows of either set. No row
    is its own neighbour.

    Args:
        scores: Classical scores of the context.
        sample: Rows of the query of shape `(M, D)`, M at least 2.

    References:
        A Nearest-Neighbor Approach to Estimating Divergence between Continuous Random Vectors,
        https://doi.org/10.1109/ISIT.2006.261842
    """

    NAMES = tuple(
        f"{AnomalyScores.REPRESENTATIONS[place]}_shift_{share}"
        for place in PLACES
        for share in SHARES
    )

    def __init__(self, scores: AnomalyScores, sample: Tensor) -> None:
        self.scores_of_context = scores
        self.sample = [scores.represent(sample)[place] for place in PLACES]
        context, own = [], []
        for place, part in zip(PLACES, self.sample, strict=True):
            rows = scores.neighbours[place].context
            across = distances(rows, part)
            inside = distances(rows, rows).fill_diagonal_(torch.inf)
            among = distances(part, part).fill_diagonal_(torch.inf)
            context += _ratios(inside, across)
            own += _ratios(across.T, among)
        self.context = torch.stack(context, dim=1)
        """Scores of the rows of the context, shape `(N, 8)`."""
        self.own = torch.stack(own, dim=1)
        """Scores of the sample, shape `(M, 8)`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Score rows that are in neither set, `(Q, D)`, as `(Q, 8)`."""
        scores, rows = [], self.scores_of_context.represent(x)
        for place, part in zip(PLACES, self.sample, strict=True):
            to_context = distances(rows[place], self.scores_of_context.neighbours[place].context)
            to_sample = distances(rows[place], part)
            scores += _ratios(to_context, to_sample)
        return torch.stack(scores, dim=1)


def _ratios(to_context: Tensor, to_query: Tensor) -> list[Tensor]:
    """Logarithms of distances to the context less those to the query, `(rows,)` for each share."""
    pairs = zip(_means(to_context), _means(to_query), strict=True)
    return [context - query for context, query in pairs]


def _means(between: Tensor) -> list[Tensor]:
    """Logarithms of the mean distances to the nearest shares of the columns."""
    near, columns = nearest(between), between.shape[1]
    sizes = [max(1, min(columns - 1, int(share * columns))) for share in SHARES]
    return [(near[:, :size].mean(1) + FLOOR).log() for size in sizes]
