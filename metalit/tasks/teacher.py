"""The classical clusterer that gives a clustering task its labels."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from ..scikit import fit_clusterer, match_labels


def teach(
    teacher: BaseEstimator,
    support: NDArray[np.float32],
    query: NDArray[np.float32],
    generator: torch.Generator,
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Cluster the support set with a clone of the teacher and label both sets.

    The query is labelled by `predict`, or, where the teacher has none, by the nearest support row.

    Args:
        teacher: A scikit-learn clusterer; each `random_state` in it is set from the generator.
        support: Table of shape `(S, D)`.
        query: Table of shape `(Q, D)`.
        generator: Where random states come from.

    Returns:
        The number of clusters in the support set, and the labels of support and query, numbered
        from 0, with -1 for noise and for clusters that have no support row.
    """
    labels, assign = fit_clusterer(teacher, support, generator)
    return int(labels.max(initial=-1)) + 1, labels, assign(query)


def agree(
    truth: NDArray[np.int64], labels: NDArray[np.int64], query_truth: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Renumber the query's true components to agree best with the labels on the support set.

    Args:
        truth: True components of the support set, shape `(S,)`.
        labels: What the teacher calls them, shape `(S,)`; -1 is left out.
        query_truth: True components of the query, shape `(Q,)`.
    """
    size = max(truth.max(), labels.max(), query_truth.max()) + 1
    return match_labels(truth, labels, size)[query_truth]
