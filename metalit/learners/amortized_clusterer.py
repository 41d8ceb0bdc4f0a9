"""A clusterer that has learned from many tables what belongs together."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits

from ..episodes import Samples, given_clusters
from ..graphs import NeighbourGraph, neighbour_graph
from ..graphs.evidence import Evidence, gather_evidence
from ..graphs.types import Floats, Integers
from ..inner_loops import InnerLoop
from ..partitions import (
    CLASSICAL,
    Candidate,
    Choice,
    Pairs,
    choose,
    classical_partitions,
    learned_partitions,
    membership,
    strength,
)
from ..partitions.classical import k_means
from ..scikit import as_table, log_probabilities, one_thread
from .base import Learner, Predictor
from .pairwise_similarity import FEWEST, PairwiseSimilarity

LADDER = (2, 4, 8, 16, 30)  # what the classical algorithms are asked for if k is not known
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


class AmortizedClusterer(Learner):
    """Clusters a new table at once, by what was learned from other tables.

    `PairwiseSimilarity` gives the probability that rows belong together. By these probabilities
    the table is clustered (spectral clustering, Genie and cuts of the spanning tree of -log p), and
    by them a partition is chosen, among these and those of the classical algorithms that the
    network has seen: the more probable the higher its expected adjusted Rand index, and taken is
    the one that agrees best with all probable ones (`metalit.partitions.choose`). The expected
    index is its confidence. If the number of clusters is not given, the probabilities are
    averaged over several numbers, and partitions into any number of clusters compete.

    With an inner loop the network takes unsupervised steps on the table itself, towards the
    partitions that it finds probable (self-training; Lee, 2013), and makes more partitions. Differs
    from the paper: the labels are probabilities, and what was meta-learned stays the judge, since a
    network that judges what it was just taught is surer of it, and not better.

    More rows than `n_context` are represented by a random subset. Other rows belong where their
    nearest context rows do. An untrained network gives the unlearned pipeline: Gaussian affinities
    of neighbours, and the share of the classical partitions that put a pair together.

    Args:
        similarity: Says which rows belong together; trained by `SimilarityCrossEntropy`.
        n_clusters: Number of clusters; None for what the support set tells (see `Samples`), or,
            if it tells nothing, for one that is estimated.
        most_clusters: Largest number that is considered where none is given.
        n_context: Largest number of rows that are looked at together.
        pairs: Number of pairs of rows by which partitions are judged.
        inner_loop: Unsupervised steps on the table; None for none.
        temperature: Difference of expected Rand indices that makes one partition e times as
            probable as another.
        random_state: Seed of the subset, the pairs and the classical algorithms.

    Raises:
        ValueError: If a number is too small, or `n_clusters` larger than `n_context`.

    References:
        Pseudo-label: the simple and efficient semi-supervised learning method for deep neural
        networks, ICML Workshop 2013.
    """

    def __init__(
        self,
        similarity: PairwiseSimilarity,
        n_clusters: int | None = None,
        most_clusters: int = 30,
        n_context: int = 2000,
        pairs: int = 12_000,
        inner_loop: InnerLoop | None = None,
        temperature: float = 0.02,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        least = min(1 if n_clusters is None else n_clusters, pairs, n_context // FEWEST)
        if least < 1 or most_clusters < 2 or not temperature > 0:
            raise ValueError(
                f"got n_clusters={n_clusters}, most_clusters={most_clusters}, n_context="
                f"{n_context}, pairs={pairs}, temperature={temperature} but at least 1, 2, "
                f"{FEWEST}, 1 and a positive one are needed: raise the one that is too small."
            )
        if n_clusters is not None and n_clusters > n_context:
            raise ValueError(
                f"n_clusters={n_clusters} should be <= n_context={n_context}, the rows that are "
                "clustered: raise n_context or lower n_clusters."
            )
        self.similarity = similarity
        self.n_clusters = n_clusters
        self.most_clusters = most_clusters
        self.n_context = n_context
        self.pairs = pairs
        self.inner_loop = inner_loop
        self.temperature = temperature
        self.random_state = random_state

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Return log-probabilities of the clusters, of shape `(Q, k)`; see `Learner`."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Cluster the support set; return a function that assigns rows to its clusters."""
        return partial(_answer, self.cluster(support))

    def cluster(self, support: Samples) -> Clustering:
        """Cluster the support set, or a random subset of `n_context` of its rows.

        Args:
            support: x of shape `(S, *features)`; y says no more than the number of clusters.
        """
        table = as_table(support.x)
        random = np.random.default_rng(self.random_state)
        if len(table) > self.n_context:
            table = table[np.sort(random.permutation(len(table))[: self.n_context])]
        k = self.n_clusters if self.n_clusters is not None else given_clusters(support.y)
        different = len(np.unique(table, axis=0))
        with one_thread():
            if len(table) < FEWEST or different <= max(k or 2, 2) or k == 1:
                repeated = different if 5 * different <= len(table) else 1
                return _cluster_few(table, min(k or repeated, different), self.random_state)
            return self._choose(neighbour_graph(table), random, k, different)

    def _choose(
        self, graph: NeighbourGraph, random: np.random.Generator, k: int | None, different: int
    ) -> Clustering:
        rows = len(graph.table)
        one = random.integers(0, rows, self.pairs)
        other = (one + random.integers(1, rows, self.pairs)) % rows
        most = max(2, min(self.most_clusters, rows // 5, different))
        candidates, evidence = list[Candidate](), list[Evidence]()
        asked = [k] if k is not None else [number for number in LADDER if number <= most]
        by_number = classical_partitions(graph, asked, self.random_state)
        for number, partitions in zip(asked, by_number, strict=True):
            names = zip(CLASSICAL, partitions, strict=True)
            candidates += [Candidate(name, number, labels) for name, labels in names]
            given = k is not None
            evidence.append(gather_evidence(graph, partitions, number, given, one, other))
        network = self.similarity.network
        evidence = [part.like(next(network.parameters())) for part in evidence]
        params = {name: value.detach() for name, value in network.named_parameters()}
        numbers = range(2, most + 1) if k is None else [k]
        edges, pairs = _look(network, params, evidence)
        candidates += learned_partitions(graph, edges, numbers, pairs, self.random_state)
        choice = choose(candidates, pairs, self.temperature)
        if self.inner_loop is not None:
            adapted = self._adapt(params, evidence, candidates, choice)
            steered, _ = _look(network, adapted, evidence)
            candidates += learned_partitions(graph, steered, numbers, pairs, self.random_state)
            choice = choose(candidates, pairs, self.temperature)
        best = candidates[choice.best]
        labels = np.unique(best.labels, return_inverse=True)[1]  # k may not all be there
        of_method = dict[str, float]()
        for candidate, score in zip(candidates, choice.scores.tolist(), strict=True):
            of_method[candidate.method] = max(score, of_method.get(candidate.method, -1.0))
        return Clustering(
            table=graph.table,
            labels=labels,
            membership=membership(graph, edges, labels),
            strength=strength(graph, edges),
            confidence=float(choice.scores[choice.best]),
            numbers=tuple(choice.number_probabilities),
            number_probabilities=np.array(list(choice.number_probabilities.values())),
            method=best.method,
            scores=of_method,
        )

    def _adapt(
        self,
        params: dict[str, Tensor],
        evidence: list[Evidence],
        candidates: list[Candidate],
        choice: Choice,
    ) -> dict[str, Tensor]:
        """Step towards the probable partitions: how often they put edges and pairs together."""
        assert self.inner_loop is not None
        network, first = self.similarity.network, evidence[0]  # all have the same edges and pairs
        labels = torch.from_numpy(np.stack([candidate.labels for candidate in candidates]))
        labels = labels.to(first.low.device)
        posterior = torch.from_numpy(choice.posterior).to(first.rows)
        targets = [
            posterior @ (labels[:, a] == labels[:, b]).to(posterior)
            for a, b in ((first.low, first.high), (first.one, first.other))
        ]

        def loss(params: dict[str, Tensor]) -> Tensor:
            odds = [functional_call(network, params, (part,)) for part in evidence]
            losses = [
                binary_cross_entropy_with_logits(o, target)
                for both in odds
                for o, target in zip(both, targets, strict=True)
            ]
            return torch.stack(losses).mean()

        with torch.inference_mode(False), torch.enable_grad():
            live = {name: value.clone().requires_grad_() for name, value in params.items()}
            adapted = self.inner_loop(loss, live)
        return {name: value.detach() for name, value in adapted.items()}


@torch.no_grad()
def _look(
    network: torch.nn.Module, params: dict[str, Tensor], evidence: list[Evidence]
) -> tuple[Floats, Pairs]:
    odds = [functional_call(network, params, (part,)) for part in evidence]
    edges, pairs = (
        np.mean([expit(both[i].double().cpu().numpy()) for both in odds], axis=0) for i in (0, 1)
    )
    return edges, Pairs(evidence[0].one.cpu().numpy(), evidence[0].other.cpu().numpy(), pairs)


def _cluster_few(table: Floats, k: int, random_state: int) -> Clustering:
    """What can be said of a table with a handful of different rows, or one cluster."""
    labels = k_means(table, k, random_state) if k > 1 else np.zeros(len(table), dtype=np.int64)
    labels = np.unique(labels, return_inverse=True)[1]
    return Clustering(
        table=table,
        labels=labels,
        membership=np.eye(int(labels.max()) + 1)[labels],
        strength=np.ones(len(table)),
        confidence=float("nan"),
        numbers=(k,),
        number_probabilities=np.ones(1),
        method="k-means",
        scores={},
    )


def _answer(clustering: Clustering, query: Tensor) -> Tensor:
    """Log-probabilities of the clusters for query rows, `(Q, k)`."""
    shares, _ = clustering.assign(as_table(query))
    return log_probabilities(torch.from_numpy(shares), query)
