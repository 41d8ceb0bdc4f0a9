"""The partitions that classical algorithms make of a table, all from one neighbour graph."""

import warnings

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from ..graphs import (
    NeighbourGraph,
    SpanningTree,
    cut_dense,
    genie,
    spanning_tree,
    spectral_embedding,
)
from ..graphs.neighbours import Floats, Integers

CLASSICAL = ("k-means", "mixture", "ward", "spectral", "normalised spectral", "genie", "dense")
"""What `classical_partitions` returns, in order."""

WEAKEST = 1e-3  # weight of an edge of which nothing is left, so that the graph stays connected


def classical_partitions(graph: NeighbourGraph, k: int, random_state: int = 0) -> Integers:
    """Cluster a table by seven classical algorithms (see `CLASSICAL`).

    k-means; a mixture of Gaussians with full covariances; Ward's linkage; spectral clustering of
    the self-tuning neighbour graph, with and without scaling the rows of the embedding to length
    one; Genie; and cuts of the tree of mutual reachability, as in HDBSCAN but into k clusters.

    Args:
        graph: Neighbour graph of n rows.
        k: Number of clusters, 1 to n.
        random_state: Seed of k-means and the mixture.

    Returns:
        Clusters of shape `(7, n)`, in `[0, k)`.
    """
    table, n = graph.table, len(graph.table)
    spectral = spectral_partitions(graph, np.maximum(graph.affinities, WEAKEST), k, random_state)
    core = graph.distances[:, min(4, graph.distances.shape[1] - 1)]
    reach = np.maximum(graph.lengths, np.maximum(core[graph.low], core[graph.high]))
    partitions = [
        (by_means := k_means(table, k, random_state)),
        _mixture(table, k, by_means, random_state),
        fcluster(linkage(table, "ward"), k, "maxclust") - 1,
        *spectral,
        genie(spanning_tree(n, graph.low, graph.high, graph.lengths), k),
        cut_dense(spanning_tree(n, graph.low, graph.high, reach), k, smallest_part(n, k)),
    ]
    return np.stack(partitions).astype(np.int64)


def k_means(table: Floats, k: int, random_state: int) -> Integers:
    """Clusters of the best of five starts, `(n,)`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        clusterer = KMeans(k, n_init=5, random_state=random_state)
        return np.asarray(clusterer.fit_predict(table), dtype=np.int64)


def spectral_partitions(
    graph: NeighbourGraph, weights: Floats, k: int, random_state: int
) -> tuple[Integers, Integers]:
    """k-means on the spectral embedding of a weighted graph, as it is and with rows of length 1."""
    n = len(graph.table)
    if k >= n - 1:
        return (clusters := k_means(graph.table, k, random_state)), clusters
    embedding = spectral_embedding(n, graph.low, graph.high, weights, k)
    lengths = np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    return k_means(embedding, k, random_state), k_means(embedding / lengths, k, random_state)


def smallest_part(n: int, k: int) -> int:
    """Rows that are enough for a cluster of its own when a tree is cut: a tenth of the mean."""
    return max(min(4, n // k), n // (10 * k))


def tree_partitions(n: int, tree: SpanningTree, k: int) -> tuple[Integers, Integers]:
    """Clusters of a spanning tree, by Genie and by cuts."""
    return genie(tree, k), cut_dense(tree, k, smallest_part(n, k))


def _mixture(table: Floats, k: int, otherwise: Integers, random_state: int) -> Integers:
    mixture = GaussianMixture(k, reg_covar=1e-4, random_state=random_state)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return np.asarray(mixture.fit_predict(table), dtype=np.int64)
    except ValueError:  # a covariance that cannot be inverted
        return otherwise
