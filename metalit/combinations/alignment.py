"""One partition out of several: by matching their clusters, or by clustering the rows anew."""

from typing import Any

import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor
from torch.nn.functional import one_hot

from ..scikit import label_of_nearest


def vote(partitions: Tensor, weights: Tensor, reference: Tensor) -> Tensor:
    """Match the clusters of all partitions to those of a reference and let them vote.

    Args:
        partitions: One-hot rows of K partitions, shape `(K, S, C)`.
        weights: Of shape `(K,)`.
        reference: Clusters of shape `(S,)`, numbered from 0 without a gap.

    Returns:
        Clusters of shape `(S,)`, among those of the reference, which decides ties.
    """
    target = one_hot(reference).to(partitions)
    matched = torch.stack([_match(partition, target) for partition in partitions])
    return (torch.einsum("k,ksn->sn", weights, matched) + 1e-6 * target).argmax(dim=1)


def _match(partition: Tensor, target: Tensor) -> Tensor:
    """Rename the clusters of `(S, C)` to those of `(S, n)`, one to one, by the Hungarian method.

    A cluster that is left over stands for the target clusters of its rows.
    """
    together = partition.T @ target  # [C, n]
    meanings = together / together.sum(dim=1, keepdim=True).clamp_min(1)
    ours, theirs = linear_sum_assignment(together.numpy(), maximize=True)
    meanings[ours] = torch.eye(target.shape[1]).to(target)[theirs]
    return partition @ meanings


def cluster_coassociation(partitions: Tensor, weights: Tensor, n_clusters: int) -> Tensor:
    """Cluster rows by the weight of the partitions that put them together.

    Args:
        partitions: One-hot rows of K partitions, shape `(K, S, C)`.
        weights: Of shape `(K,)`, with sum 1.
        n_clusters: Number of clusters; no more than rows are made.

    Returns:
        Clusters of shape `(S,)`, by average linkage.
    """
    rows = partitions.shape[1]
    if rows <= n_clusters:
        return torch.arange(rows)
    scaled = weights.sqrt()[:, None, None] * partitions
    apart = (1 - torch.einsum("ksc,ktc->st", scaled, scaled)).clamp_min(0).fill_diagonal_(0)
    linkage = AgglomerativeClustering(n_clusters, metric="precomputed", linkage="average")
    return torch.from_numpy(linkage.fit_predict(apart.numpy()))


def keep_largest(clusters: Tensor, most: int | None, table: NDArray[Any]) -> Tensor:
    """Number clusters of shape `(S,)` from 0 and keep the largest; None keeps all of them.

    Rows of the other clusters join the cluster of the nearest row that has one.
    """
    sizes = torch.bincount(clusters)
    largest = sizes.argsort(descending=True, stable=True)[: (sizes > 0).sum()][:most]
    kept = largest.sort().values
    inside, labels = torch.isin(clusters, kept).numpy(), clusters.numpy().copy()
    if not inside.all():
        labels[~inside] = label_of_nearest(table[inside], labels[inside], table[~inside])
    return torch.searchsorted(kept, torch.from_numpy(labels))
