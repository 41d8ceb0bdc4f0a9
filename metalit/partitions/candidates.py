"""Partitions that compete, and how they are judged by probabilities of pairs."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from ..graphs import NeighbourGraph, cut_dense, genie, spanning_tree
from ..graphs.types import Floats, Integers
from .classical import (
    WEAKEST,
    principal_columns,
    smallest_part,
    spectral_partitions,
)
from .expected_rand import expected_adjusted_rand
from .mixture import fit_mixture_from

TREES = ("learned genie", "learned dense")
SPECTRAL = ("learned spectral", "learned normalised spectral")
MIXTURE = "learned mixture"


class Candidate(NamedTuple):
    """A partition, and where it comes from.

    Attributes:
        method: Name of what made it.
        k: Number of clusters there are, which may be fewer than were asked for.
        labels: Clusters of n rows, `(n,)`, in `[0, k)`.
    """

    method: str
    k: int
    labels: Integers

    @classmethod
    def of(cls, method: str, labels: Integers) -> Self:
        """Number the clusters anew, without a gap."""
        found, labels = np.unique(labels, return_inverse=True)
        return cls(method, len(found), labels)


class Pairs(NamedTuple):
    """R pairs of rows, and the probability that both belong to one cluster.

    Attributes:
        one: Number of the one row, `(R,)`.
        other: Number of the other, `(R,)`.
        probabilities: In [0, 1], `(R,)`.
    """

    one: Integers
    other: Integers
    probabilities: Floats

    def together(self, labels: Integers) -> Floats:
        """Whether a partition puts each pair into one cluster, 0 or 1, `(R,)`."""
        return np.asarray(labels[self.one] == labels[self.other], dtype=np.float64)

    def judge(self, labels: Integers) -> float:
        """Expected adjusted Rand index of a partition, at most 1."""
        together = self.together(labels)
        return float(expected_adjusted_rand(together[None], self.probabilities[None])[0, 0])


def learned_partitions(
    graph: NeighbourGraph,
    probabilities: Floats,
    numbers: Sequence[int],
    pairs: Pairs,
    random_state: int,
    spectral: int = 3,
) -> list[Candidate]:
    """Cluster by the probability that neighbours belong together.

    The spanning tree of -log p is cut by Genie and by HDBSCAN's rule, for every number of
    clusters; the spectral embedding of p is clustered for the few numbers that these find best,
    and a mixture of Gaussians takes over from there.

    Args:
        graph: Neighbour graph of n rows with E edges.
        probabilities: Of the edges, in [0, 1], `(E,)`.
        numbers: Numbers of clusters.
        pairs: What partitions are judged by.
        random_state: Seed of k-means.
        spectral: How many numbers of clusters are worth a spectral clustering.
    """
    n, low, high = len(graph.table), graph.low, graph.high
    tree = spanning_tree(n, low, high, -np.log(np.clip(probabilities, 1e-6, 1 - 1e-6)))
    joined, cut = TREES
    found = [Candidate.of(joined, labels) for labels in genie(tree, numbers)]
    found += [Candidate.of(cut, cut_dense(tree, k, smallest_part(n, k))) for k in numbers]
    best = sorted(found, key=lambda candidate: -pairs.judge(candidate.labels))
    weights, narrow = np.maximum(probabilities, WEAKEST), principal_columns(graph.table)
    finest = list(dict.fromkeys(c.k for c in best if c.k in numbers))[:spectral]
    by_number = spectral_partitions(graph, weights, finest, random_state)
    for partitions in by_number:
        named = zip(SPECTRAL, partitions, strict=True)
        plain, scaled = (Candidate.of(name, labels) for name, labels in named)
        by_mixture = fit_mixture_from(narrow, plain.labels)
        found += [plain, scaled, Candidate.of(MIXTURE, by_mixture)]
    return found


def membership(graph: NeighbourGraph, probabilities: Floats, labels: Integers) -> Floats:
    """How much rows belong to clusters: half by their own label, half by their neighbours' votes.

    A neighbour votes with the probability that it belongs together with the row.

    Args:
        graph: Neighbour graph of n rows with E edges.
        probabilities: Of the edges, in [0, 1], `(E,)`.
        labels: Clusters of shape `(n,)` in `[0, k)`.

    Returns:
        Shape `(n, k)`, rows sum to 1, the largest entry is the row's label.
    """
    own = np.eye(int(labels.max()) + 1)[labels]
    votes = np.zeros_like(own)
    weights = (probabilities + 1e-9)[:, None]
    np.add.at(votes, graph.low, own[graph.high] * weights)
    np.add.at(votes, graph.high, own[graph.low] * weights)
    # a little more than half, so that a row all of whose neighbours say otherwise keeps its label
    return np.asarray(0.501 * own + 0.499 * votes / votes.sum(axis=1, keepdims=True))


def strength(graph: NeighbourGraph, probabilities: Floats) -> Floats:
    """Mean probability that a row belongs together with those it is joined with, `(n,)`."""
    n = len(graph.table)
    ends = np.concatenate([graph.low, graph.high])
    sums = np.bincount(ends, np.concatenate([probabilities, probabilities]), minlength=n)
    return np.asarray(sums / np.bincount(ends, minlength=n))
