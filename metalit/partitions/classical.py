"""The partitions that classical algorithms make of a table, all from one neighbour graph."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import svd
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from ..graphs import (
    NeighbourGraph,
    cut_dense,
    genie,
    spectral_embedding,
)
from ..graphs.types import Floats, Integers
from .mixture import fit_mixture

CLASSICAL = ("k-means", "mixture", "ward", "spectral", "normalised spectral", "genie", "dense")
"""What `classical_partitions` returns, in order."""

WIDEST = 100  # columns of a mixture: the time for a covariance grows with their third power
WEAKEST = 1e-3  # weight of an edge of which nothing is left, so that the graph stays connected


def classical_partitions(
    graph: NeighbourGraph, numbers: Sequence[int], random_state: int = 0
) -> Integers:
    """Cluster a table by seven classical algorithms (see `CLASSICAL`).

    k-means; a mixture of Gaussians with full covariances; Ward's linkage; spectral clustering of
    the self-tuning neighbour graph, with and without scaling the rows of the embedding to length
    one; Genie; and cuts of the tree of mutual reachability, as in HDBSCAN but into k clusters. Of
    more than 100 columns the mixture sees the first 100 principal components.

    Args:
        graph: Neighbour graph of n rows.
        numbers: Numbers k of clusters, each 1 to n.
        random_state: Seed of k-means and the mixture.

    Returns:
        Clusters of shape `(len(numbers), 7, n)`, in `[0, k)`.
    """
    table, n = graph.table, len(graph.table)
    weights, narrow = np.maximum(graph.affinities, WEAKEST), principal_columns(table)
    spectral = spectral_partitions(graph, weights, numbers, random_state)
    ward, joined = linkage(table, "ward"), genie(graph.tree, numbers)
    partitions = [
        [
            k_means(table, k, random_state),
            fit_mixture(narrow, k_means(narrow, k, random_state, starts=1), k),
            fcluster(ward, k, "maxclust") - 1,
            *spectral[place],
            joined[place],
            cut_dense(graph.reach_tree, k, smallest_part(n, k)),
        ]
        for place, k in enumerate(numbers)
    ]
    return np.array(partitions, dtype=np.int64)


def principal_columns(table: Floats) -> Floats:
    """The table itself, or its first `WIDEST` principal components if it has more columns."""
    if table.shape[1] <= WIDEST:
        return table
    vectors, lengths, _ = svd(table - table.mean(axis=0), full_matrices=False)
    return np.asarray(vectors[:, :WIDEST] * lengths[:WIDEST])


def k_means(table: Floats, k: int, random_state: int, starts: int = 3) -> Integers:
    """Clusters of the best of several starts, `(n,)`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        clusterer = KMeans(k, n_init=starts, random_state=random_state)
        return np.asarray(clusterer.fit_predict(table), dtype=np.int64)


def spectral_partitions(
    graph: NeighbourGraph, weights: Floats, numbers: Sequence[int], random_state: int
) -> list[tuple[Integers, Integers]]:
    """k-means on the spectral embedding of a weighted graph, as it is and with rows of length 1.

    The embedding has as many columns as clusters are asked for.
    """
    n = len(graph.table)
    width = min(max(numbers), n - 2)
    embedding = spectral_embedding(n, graph.low, graph.high, weights, width)
    partitions = []
    for k in numbers:
        columns = embedding[:, :k]
        lengths = np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), 1e-12)
        plain = k_means(columns, k, random_state)
        partitions.append((plain, k_means(columns / lengths, k, random_state)))
    return partitions


def smallest_part(n: int, k: int) -> int:
    """Rows that are enough for a cluster of its own when a tree is cut: a tenth of the mean."""
    return max(min(4, n // k), n // (10 * k))
