"""Landmarks of a partition: how good it is, by several notions of what a cluster is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.spatial.distance import pdist, squareform
from sklearn.neighbors import NearestNeighbors

Array = NDArray[Any]

LANDMARKS = (
    "conductance",
    "worst_conductance",
    "modularity",
    "separation",
    "gap",
    "boundary_density",
    "gaussian",
    "explained",
    "davies_bouldin",
    "entropy",
    "largest",
)
"""What `judge` returns, in order."""

_NEIGHBOURS = 10  # of the graph
_CORE = 5  # neighbours within a core distance, and of the scale of a similarity
_TINY = 1e-12


@dataclass(frozen=True)
class Geometry:
    """What the landmarks of all partitions of one table share.

    Attributes:
        table: Rows with columns of mean 0 and standard deviation 1, shape `(N, D)`; columns that do
            not vary are left out.
        graph: Similarities of near rows, symmetric and sparse, shape `(N, N)`.
        heads: One end of each edge of the minimum spanning tree, shape `(N - 1,)`.
        tails: The other end.
        lengths: Logarithms of their lengths, standardised.
        edges: Rows and columns of the graph's entries, with a standardised log distance to the
            tenth neighbour, of the end in the thinner region: three arrays.
    """

    table: Array
    graph: csr_array
    heads: Array
    tails: Array
    lengths: Array
    edges: tuple[Array, Array, Array]


def survey(table: Array) -> Geometry:
    """Measure a table, of shape `(N, D)` with N at least 2, in time quadratic in N.

    The graph joins each row to its 10 nearest, with similarities that fall with the distance on
    the local scale of both rows (Zelnik-Manor and Perona, 2004). The spanning tree is that of
    HDBSCAN: of mutual reachability distances, the largest of a distance and both core distances.
    """
    varies = np.ptp(table, axis=0) > 0
    table = table[:, varies] if varies.any() else np.zeros((len(table), 1))
    table = (table - table.mean(axis=0)) / np.maximum(table.std(axis=0), _TINY)
    n = len(table)
    to_near, near = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, n - 1)).fit(table).kneighbors()
    floor = max(float(np.median(to_near)), _TINY) * 1e-3  # rows that are equal
    core = np.maximum(to_near[:, min(_CORE, near.shape[1]) - 1], floor)

    rows, columns = np.repeat(np.arange(n), near.shape[1]), near.ravel()
    similar = np.exp(-(to_near.ravel() ** 2) / (core[rows] * core[columns]))
    directed = coo_array((similar, (rows, columns)), shape=(n, n)).tocsr()
    graph = csr_array(directed.maximum(directed.T))

    heads, tails, lengths = _spanning_tree(table, core)
    thin = np.log(np.maximum(to_near[:, -1], floor))
    entries = graph.tocoo()
    thinner = np.maximum(thin[entries.row], thin[entries.col])
    return Geometry(
        table,
        graph,
        heads,
        tails,
        _standardise(np.log(lengths)),
        (entries.row, entries.col, _standardise(thinner)),
    )


def judge(geometry: Geometry, labels: Array) -> Array:
    """Judge a partition of the rows by landmarks of order 1 that do not depend on scale.

    Connectedness on the graph: the mean `conductance` of clusters (the normalised cut, Shi and
    Malik, 2000), that of the worst cluster, and `modularity`. Density: `separation`, how the
    longest tree edge within a cluster compares with the shortest out of it (the idea of DBCV,
    Moulavi et al., 2014), the `gap` between edges within and between, and whether boundaries run
    through thin regions. Shape: the log-likelihood that one Gaussian a cluster gains over a single
    one, the share of variance that centres explain, and the Davies-Bouldin index. Sizes: entropy
    and the largest share.

    Args:
        geometry: What `survey` returned.
        labels: Clusters of shape `(N,)`, any integers.

    Returns:
        Landmarks of shape `(11,)`, in the order of `LANDMARKS`.
    """
    _, labels = np.unique(labels, return_inverse=True)
    sizes = np.bincount(labels)
    shares = sizes / len(labels)
    values = [
        *_connectedness(geometry.graph, labels),
        *_density(geometry, labels, shares),
        *_shape(geometry.table, labels, shares),
        float(-(shares * np.log(shares)).sum()) / 2,
        float(shares.max()),
    ]
    return np.clip(np.asarray(values, dtype=np.float64), -5.0, 5.0)


def _spanning_tree(table: Array, core: Array) -> tuple[Array, Array, Array]:
    """Both ends and the length of each edge, in memory linear in N (Prim, 1957)."""
    n = len(table)
    nearest, reach = np.zeros(n, dtype=np.int64), np.full(n, np.inf)
    tails, lengths = np.empty(n - 1, dtype=np.int64), np.empty(n - 1)
    columns, newest = np.ascontiguousarray(table.T), 0
    outside = np.ones(n, dtype=bool)
    for step in range(n - 1):
        outside[newest] = False
        apart = np.sqrt(np.square(columns - columns[:, newest, None]).sum(axis=0))
        apart = np.maximum(np.maximum(apart, core), core[newest])
        closer = outside & (apart < reach)
        reach[closer], nearest[closer] = apart[closer], newest
        reach[newest] = np.inf
        newest = int(reach.argmin())
        tails[step], lengths[step] = newest, reach[newest]
    return nearest[tails], tails, lengths


def _connectedness(graph: csr_array, labels: Array) -> tuple[float, float, float]:
    degrees = np.asarray(graph.sum(axis=1)).ravel()
    volumes = np.bincount(labels, degrees)
    entries = graph.tocoo()
    inside = labels[entries.row] == labels[entries.col]
    kept = np.bincount(labels[entries.row], entries.data * inside, minlength=len(volumes))
    conductance = 1 - kept / np.maximum(volumes, _TINY)
    chance = float(np.square(volumes / volumes.sum()).sum())
    modularity = float(kept.sum() / volumes.sum()) - chance
    return float(conductance.mean()), float(conductance.max()), modularity


def _density(geometry: Geometry, labels: Array, shares: Array) -> tuple[float, float, float]:
    heads, tails, lengths = labels[geometry.heads], labels[geometry.tails], geometry.lengths
    between = heads != tails
    # the shortest way out of a cluster is an edge of the tree
    longest = np.full(len(shares), lengths.min())
    np.maximum.at(longest, heads[~between], lengths[~between])
    shortest = np.full(len(shares), lengths.max())
    for ends in (heads, tails):
        np.minimum.at(shortest, ends[between], lengths[between])
    separation = float((shares * np.tanh(shortest - longest)).sum())
    rows, columns, thin = geometry.edges
    cut = labels[rows] != labels[columns]
    return separation, _mean(lengths, between) - _mean(lengths, ~between), _mean(thin, cut)


def _shape(table: Array, labels: Array, shares: Array) -> tuple[float, float, float]:
    n, d = table.shape
    k = len(shares)
    centres, gain, spread = np.empty((k, d)), 0.0, np.empty(k)
    for cluster, share in enumerate(shares):
        rows = table[labels == cluster]
        centres[cluster] = rows.mean(axis=0)
        apart = rows - centres[cluster]
        spread[cluster] = np.linalg.norm(apart, axis=1).mean()
        # as if d + 1 more rows had been seen, with a small variance in every direction
        covariance = (apart.T @ apart + (d + 1) * 0.05 * np.eye(d)) / (len(rows) + d + 1)
        gain += share * (np.log(share) - np.linalg.slogdet(covariance)[1] / 2)
    whole = np.linalg.slogdet(table.T @ table / n + 1e-3 * np.eye(d))[1] / 2
    within = np.square(table - centres[labels]).sum() / max(np.square(table).sum(), _TINY)
    apart = squareform(pdist(centres)) + np.diag(np.full(k, np.inf))
    ratios = (spread[:, None] + spread[None]) / np.maximum(apart, _TINY)
    index = np.log(max(float(ratios.max(axis=1).mean()), _TINY)) if k > 1 else 5.0
    return float(gain + whole) / d, 1 - float(within), float(np.clip(index, -5, 5)) / 2


def _standardise(values: Array) -> Array:
    return np.asarray((values - values.mean()) / max(float(values.std()), _TINY))


def _mean(values: Array, chosen: Array) -> float:
    """The mean of the chosen values, 0 if there are none."""
    return float(values[chosen].mean()) if chosen.any() else 0.0
