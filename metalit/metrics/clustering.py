"""Agreement of two clusterings, whatever their clusters are called."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from .base import EpisodeMetric


class AdjustedRand(EpisodeMetric):
    """Adjusted Rand index of the largest outputs and the labels (Hubert and Arabie, 1985).

    1 for the same partition, 0 on average for a random one. Rows of label -1 are ignored, other
    than in scikit-learn, where they are a cluster; an episode without a label has no index: NaN.

    References:
        Comparing partitions, https://doi.org/10.1007/BF01908075
    """

    name = "adjusted_rand"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode, -0.5 to 1; outputs `(B, Q, K)`, y `(B, Q)`, returns `(B,)`."""
        counts = contingency(outputs, y)
        n = counts.sum((1, 2))
        together = _pairs(counts).sum((1, 2))
        in_labels, in_outputs = _pairs(counts.sum(2)).sum(1), _pairs(counts.sum(1)).sum(1)
        expected = in_labels * in_outputs / _pairs(n).clamp(min=1)
        best = (in_labels + in_outputs) / 2
        # both partitions trivial in the same way: equal, as scikit-learn has it
        index = torch.where(best == expected, 1.0, (together - expected) / (best - expected))
        return torch.where(n > 0, index, torch.nan).float()


class NormalizedMutualInfo(EpisodeMetric):
    """Mutual information of the largest outputs and the labels over the mean of their entropies.

    1 for the same partition, 0 for independent ones; not adjusted for chance, so many small
    clusters score high. Rows of label -1 are ignored, other than in scikit-learn, where they are a
    cluster; an episode without a label has no value: NaN.

    References:
        Cluster Ensembles, https://www.jmlr.org/papers/v3/strehl02a.html (we divide by the
        arithmetic mean of the entropies, scikit-learn's default, not the geometric one)
    """

    name = "normalized_mutual_info"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode, 0 to 1; outputs `(B, Q, K)`, y `(B, Q)`, returns `(B,)`."""
        counts = contingency(outputs, y)
        n = counts.sum((1, 2))
        joint = counts / n.clamp(min=1)[:, None, None]  # [B, C, K]
        in_labels, in_outputs = _entropy(joint.sum(2)), _entropy(joint.sum(1))
        information = in_labels + in_outputs - _entropy(joint.flatten(1))
        mean = (in_labels + in_outputs) / 2
        value = torch.where(mean == 0, 1.0, (information / mean).clamp(0, 1))
        return torch.where(n > 0, value, torch.nan).float()


def contingency(outputs: Tensor, y: Tensor) -> Tensor:
    """Count how often label c meets cluster k, the largest output, leaving out labels of -1.

    Args:
        outputs: Shape `(B, Q, K)`.
        y: Labels of shape `(B, Q)`.

    Returns:
        Counts of shape `(B, C, K)`, float64, where C is the largest label of the meta-batch + 1.
    """
    clusters = one_hot(outputs.argmax(-1), outputs.shape[-1]).double()
    labels = one_hot(y.clamp(min=0)).double() * (y >= 0)[..., None]
    return labels.mT @ clusters


def _pairs(counts: Tensor) -> Tensor:
    """Pairs among so many things."""
    return counts * (counts - 1) / 2


def _entropy(p: Tensor) -> Tensor:
    """Entropy in nats of distributions along dimension 1."""
    entropy: Tensor = torch.special.entr(p).sum(1)
    return entropy
