"""What all of metalit does with scikit-learn: tables, seeded clones, one thread, clusterers."""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController
from torch import Tensor

FLOOR = 1e-7  # smallest probability, so that every logit is finite


def as_table(x: Tensor) -> NDArray[np.float64]:
    """Flatten inputs to rows of float64, in which no covariance of a Gaussian mixture collapses."""
    return np.asarray(x.detach().cpu().flatten(1).double().numpy())


def log_probabilities(shares: Tensor, like: Tensor) -> Tensor:
    """Take finite logarithms of probabilities, with the dtype and device of a query."""
    return as_outputs(shares.clamp_min(FLOOR).log(), like)


def as_outputs(values: Tensor, like: Tensor) -> Tensor:
    """Bring values to the device of a query, and its dtype if that is a float one."""
    return values.to(like.device, like.dtype if like.is_floating_point() else torch.float32)


def clone_seeded_from(generator: torch.Generator, estimator: BaseEstimator) -> BaseEstimator:
    """Clone an estimator, with each `random_state` in it drawn from the generator."""
    copy = clone(estimator)
    states = [n for n in sorted(copy.get_params()) if n.split("__")[-1] == "random_state"]
    return copy.set_params(**{name: draw_seed(generator) for name in states})


def seeded_clone(estimator: BaseEstimator, random_state: int) -> BaseEstimator:
    """Clone an estimator, with every `random_state` set, those of nested estimators too."""
    copy = clone(estimator)
    names = [name for name in copy.get_params() if name.split("__")[-1] == "random_state"]
    return copy.set_params(**dict.fromkeys(names, random_state))


def draw_seed(generator: torch.Generator) -> int:
    """An integer that scikit-learn takes as random_state."""
    return int(torch.randint(2**31 - 1, (), generator=generator))


@contextmanager
def one_thread() -> Iterator[None]:
    """Fit quietly on one thread: faster on small tables, and the same bits on any number of cores.

    Warnings that an iteration has not converged are left out: thousands of small tasks give some.
    """
    with warnings.catch_warnings(), _threads().limit(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def size_parameter(clusterer: BaseEstimator) -> str | None:
    """Name of the parameter that is the number of clusters; None for one that finds it itself."""
    names = clusterer.get_params(deep=False)
    return next((name for name in ("n_clusters", "n_components") if name in names), None)


Assign = Callable[[NDArray[Any]], NDArray[np.int64]]
"""From a table of shape `(Q, D)` to labels `(Q,)`, -1 for noise."""


def fit_clusterer(
    clusterer: BaseEstimator,
    table: NDArray[Any],
    generator: torch.Generator,
    n_clusters: int | None = None,
) -> tuple[NDArray[np.int64], Assign]:
    """Cluster a table with a seeded clone of a clusterer.

    Args:
        clusterer: A scikit-learn clusterer; each `random_state` in it is set from the generator.
        table: Rows of shape `(N, D)`.
        generator: Where random states come from.
        n_clusters: Number of clusters, set on the clone where the clusterer takes one.

    Returns:
        The labels of the rows, numbered from 0, with -1 for noise, and a function that labels
        other rows: by `predict`, or, where the clusterer has none, by the nearest row. It calls
        -1 what belongs to a cluster without a row.
    """
    clusterer, size = clone_seeded_from(generator, clusterer), size_parameter(clusterer)
    if size is not None and n_clusters is not None:
        clusterer = clusterer.set_params(**{size: n_clusters})
    name = type(clusterer).__name__
    if not np.isfinite(table).all():  # of which HDBSCAN would make noise
        bad = int((~np.isfinite(table)).any(axis=1).sum())
        raise ValueError(
            f"{bad} of {len(table)} rows for {name} hold NaN or infinite values but all must be "
            "finite: drop or fill them."
        )
    try:
        with one_thread():
            labels = np.asarray(clusterer.fit_predict(table))
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} cannot cluster {len(table)} rows: {reason}") from error
    clusters = np.unique(labels[labels >= 0])
    if callable(getattr(clusterer, "predict", None)):
        return _renumber(labels, clusters), partial(_predict, clusterer, clusters)
    numbers = _renumber(labels, clusters)
    return numbers, partial(label_of_nearest, table, numbers)


def _predict(
    clusterer: BaseEstimator, clusters: NDArray[Any], query: NDArray[Any]
) -> NDArray[np.int64]:
    with one_thread():
        return _renumber(np.asarray(clusterer.predict(query)), clusters)


def label_of_nearest(
    table: NDArray[Any], labels: NDArray[np.int64], query: NDArray[Any]
) -> NDArray[np.int64]:
    """The label of the nearest row, without the rounding of matrix products."""
    nearest = [
        cdist(part, table).argmin(1) for part in np.array_split(query, len(query) // 512 + 1)
    ]
    return np.asarray(labels[np.concatenate(nearest)])


def match_labels(
    labels: NDArray[np.int64], names: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """The name for each of `size` labels, one to one, that agrees with them in the most rows.

    Args:
        labels: Of shape `(N,)` in `[0, size)`; rows that are -1 here or in the names are left out.
        names: Of shape `(N,)` in `[0, size)`.
        size: Number of labels, and of names.
    """
    counts = np.zeros((size, size), dtype=np.int64)
    both = (labels >= 0) & (names >= 0)
    np.add.at(counts, (labels[both], names[both]), 1)
    return np.asarray(linear_sum_assignment(counts, maximize=True)[1])


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
