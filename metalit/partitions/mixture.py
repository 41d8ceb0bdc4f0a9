"""Mixtures of Gaussians with full covariances, fitted by expectation maximisation."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..graphs.types import Floats, Integers

_CELLS = 2**22  # numbers that are held at once for some of the clusters: 32 MiB


class _Gaussians(NamedTuple):
    """Shares `(k,)`, means `(k, D)` and covariances `(k, D, D)` of k clusters."""

    shares: Floats
    means: Floats
    covariances: Floats


def fit_mixture(table: Floats, start: Integers, k: int, iterations: int = 100) -> Integers:
    """Fit a mixture of k Gaussians with full covariances by EM that starts from a partition.

    The same as scikit-learn's `GaussianMixture` (1e-4 is added to variances; until the mean log
    likelihood changes by less than 1e-3), but many clusters at once, which is several times as
    fast: mixtures are most of what a small table costs.

    Args:
        table: Rows of shape `(n, D)`; see `principal_columns` for many columns.
        start: Clusters of shape `(n,)`, in `[0, k)`.
        k: Number of clusters.
        iterations: Steps of EM at most.

    Returns:
        Clusters of shape `(n,)`, numbered as those of `start`; `start` itself if a covariance
        cannot be inverted.
    """
    centred = table - table.mean(axis=0)
    gaussians = _maximise(centred, np.eye(k)[:, start], 1e-4)
    return _fit(centred, start, gaussians, 1e-4, iterations)


def fit_mixture_from(table: Floats, start: Integers, iterations: int = 20) -> Integers:
    """Fit a mixture like `fit_mixture`, and trust the partition that it starts from more.

    The first covariance of a small cluster is a tenth of that of the table, and 1e-3 is added to
    variances.

    Args:
        table: Rows of shape `(n, D)`.
        start: Clusters of shape `(n,)`, in `[0, k)`, none of them empty.
        iterations: Steps of EM at most.

    Returns:
        Clusters of shape `(n,)`, numbered as those of `start`.
    """
    centred, sizes, columns = table - table.mean(axis=0), np.bincount(start), table.shape[1]
    parts = [centred[start == cluster] for cluster in range(len(sizes))]
    overall, floor = np.cov(table.T) + 1e-9 * np.eye(columns), 1e-3 * np.eye(columns)
    covariances = [
        # fewer rows than columns say little of their own covariance
        (np.cov(part.T) if len(part) > columns + 1 else 0.1 * overall) + floor
        for part in parts
    ]
    means = np.stack([part.mean(axis=0) for part in parts])
    gaussians = _Gaussians(sizes / len(table), means, np.stack(covariances))
    return _fit(centred, start, gaussians, 1e-3, iterations)


def _fit(
    table: Floats, start: Integers, gaussians: _Gaussians, floor: float, iterations: int
) -> Integers:
    bound = -np.inf
    try:
        for _ in range(iterations):
            before = bound
            bound, responsibilities = _expect(table, gaussians)
            gaussians = _maximise(table, responsibilities, floor)
            if abs(bound - before) < 1e-3:
                break
        return np.asarray(_expect(table, gaussians)[1].argmax(axis=0), dtype=np.int64)
    except np.linalg.LinAlgError:  # a covariance that cannot be inverted
        return start


def _expect(table: Floats, gaussians: _Gaussians) -> tuple[float, Floats]:
    """Mean log likelihood, and the probability of each cluster for each row, `(k, n)`."""
    shares, means, covariances = gaussians
    whiten = np.linalg.inv(np.linalg.cholesky(covariances))
    scales = np.log(np.diagonal(whiten, axis1=1, axis2=2)).sum(axis=1)
    offsets = np.log(shares) + scales - table.shape[1] / 2 * np.log(2 * np.pi)
    logs = np.empty((len(shares), len(table)))
    for part in _parts(len(shares), table):
        white = whiten[part] @ table.T  # [clusters, D, n]
        white -= whiten[part] @ means[part, :, None]
        logs[part] = offsets[part, None] - np.einsum("kdn,kdn->kn", white, white) / 2
    highest = logs.max(axis=0)
    densities = np.exp(logs - highest)
    sums = densities.sum(axis=0)
    return float((np.log(sums) + highest).mean()), densities / sums


def _parts(k: int, table: Floats) -> Iterator[slice]:
    size = max(1, _CELLS // table.size)
    yield from (slice(start, start + size) for start in range(0, k, size))


def _maximise(table: Floats, responsibilities: Floats, floor: float) -> _Gaussians:
    # a cluster may be empty
    sizes = responsibilities.sum(axis=1) + 10 * np.finfo(np.float64).eps
    means = responsibilities @ table / sizes[:, None]
    moments = [
        (responsibilities[part, None] * table.T) @ table
        for part in _parts(len(responsibilities), table)
    ]
    covariances = np.concatenate(moments) / sizes[:, None, None]
    covariances -= means[:, :, None] * means[:, None]
    covariances += floor * np.eye(table.shape[1])
    return _Gaussians(sizes / sizes.sum(), means, covariances)
