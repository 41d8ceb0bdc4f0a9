"""The super learner of clusterers: one partition out of several."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.nn.functional import one_hot

from ..episodes import Samples
from ..scikit import as_table, log_probabilities
from .alignment import cluster_coassociation, keep_largest, vote
from .base import Combination, Evidence, Weighting, learn_all
from .replacement import COMBINATION
from .validity import LANDMARKS, judge, survey

if TYPE_CHECKING:
    from ..learners.base import Learner

Alignment = Literal["select", "hungarian", "coassociation"]

RULE = {"conductance": -1.0, "separation": 1.0, "gaussian": 1.0, "agreement": 1.0}
"""The fixed rule of weights: a good partition cuts few edges between neighbours, has thin regions
between its clusters, clusters that are near to Gaussian, and is what others find too. One landmark
for each notion of a cluster, all counted alike; nothing about it is fitted."""

_MOST = 4000  # rows that the landmarks look at: their time is quadratic


class Consensus(Combination):
    """Weighs several partitions of the support rows and makes one of them.

    No labels are looked at. Landmarks of each partition (see `judge`; the last one is its mean
    adjusted Rand index with the other partitions) say how good it is. The logits of the weights
    are a fixed `RULE` of the landmarks plus the prior, so that a gate that was meta-trained over
    tasks corrects the rule, and one that was not leaves it as it is. A partition with one cluster
    has no weight, unless there is no other.

    The consensus partition of the support rows is made in one of three ways. Then each cluster of
    a base learner stands for the consensus clusters of its support rows, and the answer for a
    query row is the weighted mean of what the clusters stand for: log-probabilities of the
    consensus clusters. Weights are differentiable in it. Noise that a base learner gives a column
    of its own is a cluster like the others.

    Args:
        n_clusters: Number of outputs; None for as many as the heaviest partition has clusters. The
            smallest of those that are too many are joined to the clusters of their nearest rows.
        alignment: "select" answers by the heaviest partition alone, except while a gate is
            trained, which must see what all weights do. "hungarian" matches the clusters of all
            partitions to those of the heaviest, one to one, and lets them vote (Dudoit and
            Fridlyand, 2003). "coassociation" clusters the rows anew, by average linkage, by the
            weight of the partitions that put two rows together (Fred and Jain, 2005); it needs
            memory quadratic in the support rows.
        sharpness: How much the rule counts: logits for one standard deviation between base
            learners. 0 leaves the weights to the prior alone: equal, if nothing was learned.

    Raises:
        ValueError: If `n_clusters` is smaller than 1, `sharpness` negative, or `alignment` unknown.

    References:
        Bagging to improve the accuracy of a clustering procedure,
        https://doi.org/10.1093/bioinformatics/btg038
        Combining Multiple Clusterings Using Evidence Accumulation,
        https://doi.org/10.1109/TPAMI.2005.113
    """

    n_landmarks = len(LANDMARKS) + 1

    def __init__(
        self,
        n_clusters: int | None = None,
        alignment: Alignment = "select",
        sharpness: float = 2.0,
    ) -> None:
        if (n_clusters is not None and n_clusters < 1) or sharpness < 0:
            raise ValueError(
                f"n_clusters={n_clusters} and sharpness={sharpness} but at least 1 (or None) and 0 "
                "are needed: raise the one that is too small."
            )
        if alignment not in get_args(Alignment):
            raise ValueError(
                f"alignment={alignment!r} is unknown: choose from {get_args(Alignment)}."
            )
        self.n_clusters = n_clusters
        self.alignment = alignment
        self.sharpness = sharpness

    def observe(self, learners: "Mapping[str, Learner]", support: Samples) -> Evidence:
        """Let the base learners cluster the support rows, and judge their partitions."""
        with warnings.catch_warnings():
            # a graph in pieces, no convergence: the partition is judged, whatever came before it
            warnings.simplefilter("ignore", UserWarning)
            predictors = learn_all(learners, support)
        with torch.no_grad():
            answers = [predictor(support.x).cpu() for predictor in predictors]
        partitions = torch.stack([answer.argmax(dim=1) for answer in answers])  # [K, S]
        width = max(answer.shape[1] for answer in answers)
        return Evidence(
            predictors=predictors,
            outputs=one_hot(partitions, width).double(),
            landmarks=torch.from_numpy(_landmarks(as_table(support.x), partitions.numpy())),
        )

    def weigh(
        self,
        names: Sequence[str],
        evidence: Evidence,
        support: Samples,
        prior: Tensor,
        training: bool = False,
    ) -> Weighting:
        """Weigh the partitions and find what their clusters stand for."""
        rule = apply_rule(evidence.landmarks, self.sharpness)
        weights = (prior + rule.to(prior)).softmax(dim=0)
        heaviest = int(weights.argmax())
        report: dict[str, Any] = {
            "weights": dict(zip(names, weights.tolist(), strict=True)),
            "heaviest": names[heaviest],
            "kept": names[heaviest] if self.alignment == "select" else COMBINATION,
            "alignment": self.alignment,
        }
        if self.alignment == "select" and not training:
            weights = one_hot(weights.argmax(), len(weights)).to(weights)
        partitions, fixed = evidence.outputs, weights.detach().cpu().double()
        reference = partitions[heaviest].argmax(dim=1)
        clusters = keep_largest(reference, self.n_clusters, as_table(support.x))
        if self.alignment == "hungarian":
            clusters = vote(partitions, fixed, clusters)
        elif self.alignment == "coassociation":
            size = self.n_clusters or int(clusters.max()) + 1
            clusters = cluster_coassociation(partitions, fixed, size)
        width = self.n_clusters or int(clusters.max()) + 1
        together = partitions.mT @ one_hot(clusters, width).double()  # [K, C, n_clusters]
        together += 1e-9  # a cluster without a support row stands for all alike
        return Weighting(weights, report, state=together / together.sum(dim=2, keepdim=True))

    def answer(self, evidence: Evidence, weighting: Weighting, query: Tensor) -> Tensor:
        """Return log-probabilities of the consensus clusters, of shape `(Q, n_clusters)`."""
        votes = []
        for k, predictor in enumerate(evidence.predictors):
            shares = predictor(query).softmax(dim=1)
            meaning = weighting.state[k, : shares.shape[1]].to(shares)
            votes.append(weighting.weights[k].to(shares) * (shares @ meaning))
        return log_probabilities(torch.stack(votes).sum(dim=0), query)


def apply_rule(landmarks: Tensor, sharpness: float) -> Tensor:
    """Score K base learners by `RULE`, from landmarks `(K, L)`; return logits of shape `(K,)`.

    Each landmark is standardised over the base learners before they are added up, and so are the
    sums, which are multiplied by the sharpness. A partition with one cluster only is out of the
    question, -inf, unless there is no other: it cuts nothing, so that by conductance it would be
    the best of all.
    """
    names = [*LANDMARKS, "agreement"]
    signs = landmarks.new_tensor([RULE.get(name, 0.0) for name in names])
    logits = landmarks.new_zeros(len(landmarks))
    parted = landmarks[:, LANDMARKS.index("largest")] < 1
    if bool(parted.any()):
        logits[parted] = sharpness * _standardise(_standardise(landmarks[parted]) @ signs)
        logits[~parted] = -torch.inf
    return logits


def _standardise(values: Tensor) -> Tensor:
    centred = values - values.mean(dim=0)
    return centred / centred.square().mean(dim=0).sqrt().clamp_min(1e-6)


def _landmarks(table: NDArray[Any], partitions: NDArray[Any]) -> NDArray[np.float64]:
    """Landmarks `(K, L)` of partitions `(K, S)`."""
    rows = np.linspace(0, len(table) - 1, min(len(table), _MOST)).astype(int)
    if len(rows) < 2:
        return np.zeros((len(partitions), len(LANDMARKS) + 1))
    geometry, partitions = survey(table[rows]), partitions[:, rows]
    judged = [judge(geometry, partition) for partition in partitions]
    pairs = [[adjusted_rand_score(one, other) for other in partitions] for one in partitions]
    agreement = (np.sum(pairs, axis=1) - 1) / max(len(partitions) - 1, 1)
    return np.column_stack([judged, agreement])
