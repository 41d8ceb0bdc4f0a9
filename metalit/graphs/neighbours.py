"""The graph of nearest neighbours, connected."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from .trees import SpanningTree, spanning_tree
from .types import Floats, Integers


class NeighbourGraph(NamedTuple):
    """The nearest neighbours of n rows, and the E pairs that are joined.

    Attributes:
        table: Rows of shape `(n, D)`.
        neighbours: Numbers of the m nearest other rows, the nearest first, `(n, m)`.
        distances: How far away they are, `(n, m)`.
        low: The row of smaller number of each joined pair, `(E,)`.
        high: The row of larger number, `(E,)`.
        lengths: Distances of the joined pairs, `(E,)`.
        scale: Distance of each row to its seventh neighbour, which says how dense the rows lie
            around it (Zelnik-Manor and Perona, 2004), `(n,)`; never 0.
        tree: Minimum spanning tree.
        reach_tree: The same by mutual reachability, which is at least the distance of either row
            to its fifth neighbour, as in HDBSCAN.
    """

    table: Floats
    neighbours: Integers
    distances: Floats
    low: Integers
    high: Integers
    lengths: Floats
    scale: Floats
    tree: SpanningTree
    reach_tree: SpanningTree

    @property
    def affinities(self) -> Floats:
        """Self-tuning Gaussian affinities of the joined pairs, in (0, 1], of shape `(E,)`."""
        return np.asarray(
            np.exp(-(self.lengths**2) / (self.scale[self.low] * self.scale[self.high]))
        )


def neighbour_graph(table: Floats, neighbours: int = 16, joined: int = 12) -> NeighbourGraph:
    """Find nearest neighbours, and join each row with the nearest of them.

    Where this leaves several parts, each part is joined with its nearest other one, until there is
    one graph.

    Args:
        table: Rows of shape `(n, D)`, n at least 2, finite.
        neighbours: Number m of neighbours to find, at most n - 1 of them.
        joined: How many of these a row is joined with.
    """
    n = len(table)
    found = NearestNeighbors(n_neighbors=min(neighbours, n - 1)).fit(table)
    distances, numbers = found.kneighbors()
    near = numbers[:, :joined]
    low, high = _join(table, np.repeat(np.arange(n), near.shape[1]), near.ravel())
    lengths = np.linalg.norm(table[low] - table[high], axis=1)
    floor = 1e-6 * float(distances.mean()) + 1e-12  # rows may be equal
    last = distances.shape[1] - 1
    scale, core = distances[:, min(6, last)] + floor, distances[:, min(4, last)]
    reach = np.maximum(lengths, np.maximum(core[low], core[high]))
    return NeighbourGraph(
        *(table, numbers, distances, low, high, lengths, scale),
        tree=spanning_tree(n, low, high, lengths),
        reach_tree=spanning_tree(n, low, high, reach),
    )


def _join(table: Floats, one: Any, other: Any) -> tuple[Integers, Integers]:
    """Sort pairs, drop repeated ones, and add the shortest that make one graph of the parts."""
    n = len(table)
    while True:
        pairs = np.sort(np.minimum(one, other) * n + np.maximum(one, other))
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        low, high = pairs // n, pairs % n
        graph = coo_array((np.ones(len(low)), (low, high)), shape=(n, n))
        parts, part = connected_components(graph, directed=False)
        if parts == 1:
            return low.astype(np.int64), high.astype(np.int64)
        largest = int(np.bincount(part).argmax())
        links = [_nearest_link(table, part == p) for p in range(parts) if p != largest]
        one = np.concatenate([low, [link[0] for link in links]])
        other = np.concatenate([high, [link[1] for link in links]])


def _nearest_link(table: Floats, inside: NDArray[np.bool_]) -> tuple[int, int]:
    """The closest pair of a row inside a part and one outside."""
    members, others = np.flatnonzero(inside), np.flatnonzero(~inside)
    distances = cdist(table[members], table[others])
    i, j = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(members[i]), int(others[j])
