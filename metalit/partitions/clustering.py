"""What is known of a table that was clustered."""

from typing import NamedTuple

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..graphs.types import Floats, Integers

_VOTERS = 5  # context rows that say where another row belongs


class Clustering(NamedTuple):
    """A partition of the context rows, chosen among candidates, and what is known about it.

    Attributes:
        table: The n context rows that were clustered, `(n, D)`.
        labels: Clusters of these rows, `(n,)`, in `[0, k)`.
        membership: How much each row belongs to each cluster, `(n, k)`; rows sum to 1.
        strength: Mean probability that a row and its neighbours belong together, `(n,)`.
        confidence: Expected adjusted Rand index of the partition, at most 1.
        numbers: Numbers of clusters that were considered.
        number_probabilities: Probability of each, `(len(numbers),)`.
        method: Where the partition comes from.
        scores: Expected adjusted Rand index of the best partition of each method.
    """

    table: Floats
    labels: Integers
    membership: Floats
    strength: Floats
    confidence: float
    numbers: tuple[int, ...]
    number_probabilities: Floats
    method: str
    scores: dict[str, float]

    def assign(self, rows: Floats) -> tuple[Floats, Floats]:
        """Membership `(Q, k)` and strength `(Q,)` of other rows, from their nearest context rows.

        A context row keeps its own.
        """
        voters = NearestNeighbors(n_neighbors=min(_VOTERS, len(self.table))).fit(self.table)
        distances, near = voters.kneighbors(rows)
        squares = distances**2
        # the inverse square of the distance, so that a context row answers for itself
        # what is added is of the row alone, so that a far row in the query changes no other
        weights = 1 / (squares + 1e-12 * squares.mean(axis=1, keepdims=True) + 1e-300)
        weights /= weights.sum(axis=1, keepdims=True)
        shares = np.einsum("qv,qvk->qk", weights, self.membership[near])
        return shares, np.asarray((weights * self.strength[near]).sum(axis=1))
