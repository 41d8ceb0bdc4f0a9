"""The classical clusterer that gives a clustering task its labels."""

import functools
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController


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
    teacher = clone_seeded_from(generator, teacher)
    # one thread: faster on small tables, and the same bits on any number of cores
    with warnings.catch_warnings(), _threads().limit(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = np.asarray(teacher.fit_predict(support))
        if callable(getattr(teacher, "predict", None)):
            answers = np.asarray(teacher.predict(query))
        else:
            answers = labels[_nearest(support, query)]
    clusters = np.unique(labels[labels >= 0])
    return len(clusters), _renumber(labels, clusters), _renumber(answers, clusters)


def clone_seeded_from(generator: torch.Generator, estimator: BaseEstimator) -> BaseEstimator:
    """Clone an estimator, with each `random_state` in it drawn from the generator."""
    copy = clone(estimator)
    states = [n for n in sorted(copy.get_params()) if n.split("__")[-1] == "random_state"]
    return copy.set_params(**{name: draw_seed(generator) for name in states})


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
    counts = np.zeros((size, size), dtype=np.int64)
    np.add.at(counts, (truth[labels >= 0], labels[labels >= 0]), 1)
    numbers = linear_sum_assignment(counts, maximize=True)[1]
    return np.asarray(numbers[query_truth], dtype=np.int64)


def draw_seed(generator: torch.Generator) -> int:
    """An integer that scikit-learn takes as random_state."""
    return int(torch.randint(2**31 - 1, (), generator=generator))


def _nearest(support: NDArray[Any], query: NDArray[Any]) -> NDArray[np.int64]:
    """The nearest support row of each query row, without the rounding of matrix products."""
    tables = torch.from_numpy(query), torch.from_numpy(support)
    distances = torch.cdist(*tables, compute_mode="donot_use_mm_for_euclid_dist")
    return np.asarray(distances.argmin(1).numpy())


def _renumber(labels: NDArray[Any], clusters: NDArray[Any]) -> NDArray[np.int64]:
    """The place of each label among the clusters, -1 for other labels."""
    places = np.full(len(labels), -1, dtype=np.int64)
    for place, cluster in enumerate(clusters):
        places[labels == cluster] = place
    return places


@functools.cache
def _threads() -> ThreadpoolController:
    """The native thread pools, looked up once a process: the look-up takes milliseconds."""
    return ThreadpoolController()
