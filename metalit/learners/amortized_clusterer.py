"""A clusterer that has learned from many tables what belongs together."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import expit, softmax
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import binary_cross_entropy_with_logits

from ..episodes import Samples, given_clusters
from ..graphs import NeighbourGraph, neighbour_graph
from ..graphs.evidence import Evidence, Geometry, gather_evidence, measure_geometry
from ..graphs.types import Floats
from ..inner_loops import InnerLoop, Params
from ..partitions import (
    CLASSICAL,
    Candidate,
    Choice,
    Clustering,
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

LADDER = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 65, 80)
"""Numbers of clusters that are tried, in this order, if none is known; the largest comes last."""

_FIRST = 12  # so many of them are always tried, larger ones as long as the largest fits best
# difference of expected indices that makes a number count e times as much: so large that on random
# tables the confidence is in the mean what is reached
_UNSURE = 0.05
_FINER = 0.04  # expected index that e times as many clusters are worth, chosen on random tables


class _View(NamedTuple):
    """What the network says of a table."""

    edges: Floats
    pairs: Pairs


class _Trial(NamedTuple):
    """What becomes of a number of clusters if the network is told that it is the true one."""

    evidence: Evidence
    candidates: list[Candidate]
    view: _View
    fit: float


class AmortizedClusterer(Learner):
    """Clusters a new table at once, by what was learned from other tables.

    `PairwiseSimilarity` gives the probability that rows belong together. By these probabilities
    the table is clustered (spectral clustering, Genie and cuts of the spanning tree of -log p), and
    by them a partition is chosen, among these and those of the classical algorithms that the
    network has seen: the more probable the higher its expected adjusted Rand index, and taken is
    the one that agrees best with all probable ones (`metalit.partitions.choose`). The expected
    index is its confidence. If the number of clusters is not given, the network is told one after
    another: the surer it then is of a partition, the more it counts in the mean of its
    probabilities of pairs, and by this mean partitions into any number compete.

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
        most_clusters: Largest number that is considered where none is given; at most a fifth of the
            rows, and above 30 only while the largest tried fits best.
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
        most_clusters: int = 100,
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
        geometry = measure_geometry(graph, one, other)
        params = {name: v.detach() for name, v in self.similarity.network.named_parameters()}
        if k is None:
            most = max(2, min(self.most_clusters, rows // 5, different))
            trials = self._climb(geometry, params, most)
            numbers: Sequence[int] = range(2, trials[-1].evidence.k + 1)
        else:
            trials = self._try(geometry, params, [k])
            numbers = [k]
        weights = softmax([trial.fit / _UNSURE for trial in trials])
        edges, pairs = _average([trial.view for trial in trials], weights)
        candidates = [candidate for trial in trials for candidate in trial.candidates]
        candidates += learned_partitions(graph, edges, numbers, pairs, self.random_state)
        candidates = _fitting(candidates, numbers)
        choice = choose(candidates, pairs, self.temperature)
        if self.inner_loop is not None:
            evidence = [trial.evidence for trial in trials]
            adapted = self._adapt(params, evidence, weights, candidates, choice)
            views = [_look(self.similarity.network, adapted, part) for part in evidence]
            steered = _average(views, weights).edges
            candidates += learned_partitions(graph, steered, numbers, pairs, self.random_state)
            candidates = _fitting(candidates, numbers)
            choice = choose(candidates, pairs, self.temperature)
        best = candidates[choice.best]
        of_method = dict[str, float]()
        for candidate, score in zip(candidates, choice.scores.tolist(), strict=True):
            of_method[candidate.method] = max(score, of_method.get(candidate.method, -1.0))
        shares = dict.fromkeys(numbers, 0.0) | choice.number_probabilities
        return Clustering(
            table=graph.table,
            labels=best.labels,
            membership=membership(graph, edges, best.labels),
            strength=strength(graph, edges),
            confidence=float(choice.scores[choice.best]),
            numbers=tuple(shares),
            number_probabilities=np.array(list(shares.values())),
            method=best.method,
            scores=of_method,
        )

    def _climb(self, geometry: Geometry, params: Params, most: int) -> list[_Trial]:
        """Try numbers of clusters up to `most`, large ones only while the largest fits best."""
        ladder = [*(number for number in LADDER if number < most), most]
        trials = self._try(geometry, params, ladder[:_FIRST])
        for number in ladder[_FIRST:]:
            if trials[-1].fit < max(trial.fit for trial in trials):
                break
            trials += self._try(geometry, params, [number])
        return trials

    def _try(self, geometry: Geometry, params: Params, numbers: Sequence[int]) -> list[_Trial]:
        """Tell the network each number; a trial fits by how sure it is of the best partition."""
        trials = []
        by_number = classical_partitions(geometry.graph, numbers, self.random_state)
        for number, partitions in zip(numbers, by_number, strict=True):
            names = zip(CLASSICAL, partitions, strict=True)
            candidates = [Candidate.of(name, labels) for name, labels in names]
            evidence = gather_evidence(geometry, partitions, number)
            evidence = evidence.like(next(iter(params.values())))
            view = _look(self.similarity.network, params, evidence)
            surest = max(view.pairs.judge(candidate.labels) for candidate in candidates)
            # of many clusters it is less sure, however right they are
            fit = surest + _FINER * float(np.log(number))
            trials.append(_Trial(evidence, candidates, view, fit))
        return trials

    def _adapt(
        self,
        params: Params,
        evidence: list[Evidence],
        weights: Floats,
        candidates: list[Candidate],
        choice: Choice,
    ) -> Params:
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

        def loss(params: Params) -> Tensor:
            losses = []
            for part, weight in zip(evidence, weights.tolist(), strict=True):
                odds = functional_call(network, params, (part,))
                of_kind = zip(odds, targets, strict=True)
                both = [binary_cross_entropy_with_logits(o, target) for o, target in of_kind]
                losses.append(weight * torch.stack(both).mean())
            return torch.stack(losses).sum()

        with torch.inference_mode(False), torch.enable_grad():
            live = {name: value.clone().requires_grad_() for name, value in params.items()}
            adapted = self.inner_loop(loss, live)
        return {name: value.detach() for name, value in adapted.items()}


@torch.no_grad()
def _look(network: torch.nn.Module, params: Params, evidence: Evidence) -> _View:
    odds = functional_call(network, params, (evidence,))
    edges, pairs = (expit(values.double().cpu().numpy()) for values in odds)
    return _View(edges, Pairs(evidence.one.cpu().numpy(), evidence.other.cpu().numpy(), pairs))


def _average(views: Sequence[_View], weights: Floats) -> _View:
    """Mean probabilities; all views are of the same edges and pairs."""
    edges = np.average([view.edges for view in views], axis=0, weights=weights)
    pairs = np.average([view.pairs.probabilities for view in views], axis=0, weights=weights)
    return _View(edges, views[0].pairs._replace(probabilities=pairs))


def _fitting(candidates: list[Candidate], numbers: Sequence[int]) -> list[Candidate]:
    """Those with a number of clusters that is wanted; Genie's always have it."""
    return [candidate for candidate in candidates if candidate.k in numbers]


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
