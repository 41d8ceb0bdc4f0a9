"""How many clusters there are: four criteria."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.mixture import GaussianMixture

from ..scikit import draw_seed, fit_clusterer, one_thread

Selection = Literal["silhouette", "gap", "bic", "stability"]
Table = NDArray[Any]

_REPEATS = 10  # reference tables of the gap statistic, pairs of samples of the stability


def choose_number(
    table: Table,
    clusterer: BaseEstimator,
    selection: Selection,
    max_clusters: int,
    generator: torch.Generator,
) -> tuple[int, dict[str, float]]:
    """Choose the number of clusters among 2, …, max_clusters.

    Args:
        table: Rows of shape `(N, D)`.
        clusterer: Takes a number as its `n_clusters` or `n_components`.
        selection: "silhouette" and "stability" (agreement of the partitions of two samples of 80 %
            of the rows; Ben-Hur et al., 2002) take the largest value, "bic" the largest minus BIC
            of a mixture of Gaussians, whatever the clusterer, and "gap" the smallest number whose
            gap is within one standard error of the next (Tibshirani et al., 2001).
        max_clusters: Largest number; fewer where there are fewer different rows.
        generator: Where random states come from.

    Returns:
        The number, and the curve of the criterion by number; larger is better in all four.

    Raises:
        ValueError: If there are fewer than 3 different rows.
    """
    distinct = len(np.unique(table, axis=0))
    if distinct < 3:
        raise ValueError(
            f"{len(table)} rows with {distinct} different ones are given but at least 3 different "
            "ones are needed to choose the number of clusters: set n_clusters."
        )
    numbers = range(2, min(max_clusters, distinct - 1) + 1)
    if selection == "gap":
        return _gap(table, clusterer, numbers, generator)
    criterion = {"silhouette": _silhouette, "bic": _bic, "stability": _stability}[selection]
    curve = {k: criterion(table, clusterer, k, generator) for k in numbers}
    # clear clusters stay together in any smaller number too: of equally stable numbers the largest
    sign = 1 if selection == "stability" else -1
    best = max(curve, key=lambda k: (round(curve[k], 6), sign * k))
    return best, {str(k): value for k, value in curve.items()}


def _silhouette(
    table: Table, clusterer: BaseEstimator, clusters: int, generator: torch.Generator
) -> float:
    labels = fit_clusterer(clusterer, table, generator, clusters)[0]
    return silhouette(table, labels)


def silhouette(table: Table, labels: NDArray[np.int64]) -> float:
    """Mean silhouette of the rows that have a label; -1, its lowest, for fewer than 2 clusters."""
    table, labels = table[labels >= 0], labels[labels >= 0]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return -1.0
    with one_thread():
        return float(silhouette_score(table, labels))


def _bic(
    table: Table, clusterer: BaseEstimator, clusters: int, generator: torch.Generator
) -> float:
    spread = float(table.var(axis=0).mean())
    # a little of the spread, so that duplicates do not make a component infinitely dense
    mixture = GaussianMixture(
        clusters, n_init=3, reg_covar=1e-4 * spread, random_state=draw_seed(generator)
    )
    with one_thread():
        return -float(mixture.fit(table).bic(table))


def _stability(
    table: Table, clusterer: BaseEstimator, clusters: int, generator: torch.Generator
) -> float:
    size = max(clusters + 1, round(0.8 * len(table)))
    agreements = []
    for _ in range(_REPEATS):
        labels = np.full((2, len(table)), -1)
        for row in labels:
            sample = torch.randperm(len(table), generator=generator)[:size].numpy()
            row[sample] = fit_clusterer(clusterer, table[sample], generator, clusters)[0]
        both = (labels >= 0).all(axis=0)
        agreements.append(adjusted_rand_score(*labels[:, both]))
    return float(np.mean(agreements))


def _gap(
    table: Table, clusterer: BaseEstimator, numbers: range, generator: torch.Generator
) -> tuple[int, dict[str, float]]:
    """The gap statistic, with reference tables uniform in the box along the principal axes."""
    centred = table - table.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    low, high = (centred @ axes.T).min(axis=0), (centred @ axes.T).max(axis=0)
    uniform = torch.rand(_REPEATS, len(table), len(axes), generator=generator, dtype=torch.float64)
    references = (low + uniform.numpy() * (high - low)) @ axes
    gaps, errors = [], []
    for k in numbers:
        own = _log_dispersion(table, fit_clusterer(clusterer, table, generator, k)[0])
        others = [
            _log_dispersion(r, fit_clusterer(clusterer, r, generator, k)[0]) for r in references
        ]
        gaps.append(float(np.mean(others)) - own)
        errors.append(float(np.std(others)) * (1 + 1 / _REPEATS) ** 0.5)
    curve = {str(k): gap for k, gap in zip(numbers, gaps, strict=True)}
    for k, gap, following, error in zip(numbers, gaps, gaps[1:], errors[1:], strict=False):
        if gap >= following - error:
            return k, curve
    return numbers[-1], curve


def _log_dispersion(table: Table, labels: NDArray[np.int64]) -> float:
    """Logarithm of the sum of squared distances to the cluster means."""
    members = [table[labels == k] for k in np.unique(labels[labels >= 0])]
    total = sum(float(((m - m.mean(axis=0)) ** 2).sum()) for m in members)
    return float(np.log(max(total, 1e-300)))
