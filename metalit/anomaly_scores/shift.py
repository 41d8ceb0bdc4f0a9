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
            neighbours = scores.neighbours[place]
            across = distances(neighbours.context, part)
            among = distances(part, part).fill_diagonal_(torch.inf)
            inside = _logarithms(neighbours.near, len(neighbours.context))
            context += _ratios(inside, _means(across))
            own += _ratios(_means(across.T), _means(among))
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
            scores += _ratios(_means(to_context), _means(to_sample))
        return torch.stack(scores, dim=1)


def _ratios(to_context: list[Tensor], to_query: list[Tensor]) -> list[Tensor]:
    """Logarithms of distances to the context less those to the query, `(rows,)` for each share."""
    return [context - query for context, query in zip(to_context, to_query, strict=True)]


def _means(between: Tensor) -> list[Tensor]:
    """Logarithms of the mean distances to the nearest shares of the columns."""
    return _logarithms(nearest(between), between.shape[1])


def _logarithms(near: Tensor, columns: int) -> list[Tensor]:
    """The same from distances that are sorted already, of which the larger may be missing."""
    sizes = [max(1, min(columns - 1, int(share * columns))) for share in SHARES]
    return [(near[:, :size].mean(1).double() + FLOOR).log() for size in sizes]
