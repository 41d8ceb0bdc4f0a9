"""Mixtures of Gaussians against scikit-learn's."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from metalit.partitions import mixture
from metalit.partitions.mixture import fit_mixture, fit_mixture_from


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize(
    ("columns", "k", "iterations"), [(1, 3, 100), (2, 25, 100), (2, 25, 3), (30, 4, 100)]
)
def test_a_mixture_is_scikit_learns(columns: int, k: int, iterations: int) -> None:
    x, _ = make_blobs(400, columns, centers=k, cluster_std=3, random_state=0)
    x = x @ np.random.default_rng(0).normal(size=(columns, columns)) ** 3  # not round
    start = KMeans(k, n_init=1, random_state=3).fit_predict(x)
    theirs = GaussianMixture(k, reg_covar=1e-4, max_iter=iterations, random_state=3)
    found = fit_mixture(x, start, k, iterations)
    assert not np.array_equal(found, start)
    assert np.array_equal(found, theirs.fit_predict(x))


@pytest.mark.parametrize("cells", [1, 5000])
def test_a_mixture_in_parts_of_its_clusters_is_the_same(monkeypatch, cells: int) -> None:
    x, _ = make_blobs(200, 7, centers=9, cluster_std=4, random_state=0)
    start = KMeans(9, n_init=1, random_state=0).fit_predict(x)
    whole = fit_mixture(x, start, 9)
    monkeypatch.setattr(mixture, "_CELLS", cells)  # one and three clusters at once
    assert np.array_equal(fit_mixture(x, start, 9), whole)


@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize("iterations", [2, 20])
def test_a_mixture_that_starts_from_a_partition_is_scikit_learns(iterations: int) -> None:
    x, _ = make_blobs(300, 2, centers=4, cluster_std=3, random_state=0)
    start = KMeans(4, n_init=1, random_state=0).fit_predict(x)
    start[:2] = 4  # too few rows for a covariance of their own
    parts = [x[start == cluster] for cluster in range(5)]
    covariances = [np.cov(part.T) for part in parts[:4]] + [0.1 * np.cov(x.T)]
    theirs = GaussianMixture(
        5,
        reg_covar=1e-3,
        max_iter=iterations,
        weights_init=np.bincount(start) / 300,
        means_init=np.stack([part.mean(axis=0) for part in parts]),
        precisions_init=np.linalg.inv(np.stack(covariances) + 1e-3 * np.eye(2)),
    )
    assert np.array_equal(fit_mixture_from(x, start, iterations), theirs.fit_predict(x))


def test_a_mixture_does_not_need_rows_in_every_cluster() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0, 0], [9, 9]], 30, axis=0)
    start = np.repeat([0, 2], 30)
    assert np.array_equal(fit_mixture(x, start, 4), start)


def test_a_mixture_whose_covariance_cannot_be_inverted_gives_its_start() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2)) * 1e12
    x[:, 1] = x[:, 0]
    start = np.arange(20) % 2
    assert np.array_equal(fit_mixture(x, start, 2), start)


def test_a_mixture_that_starts_from_a_partition_straightens_its_borders() -> None:
    random = np.random.default_rng(0)
    y = np.repeat([1, 0, 2], [150, 150, 6])
    x = random.normal(size=(306, 2)) * [4.0, 0.3] + np.array([[0, 0], [0, 2], [30, 30]])[y]
    start = np.where(random.random(306) < 0.2, random.integers(0, 3, 306), y)
    found = fit_mixture_from(x, start)
    assert adjusted_rand_score(y, start) < 0.7
    assert (found == y).mean() > 0.99  # the numbers are those of the start


@pytest.mark.parametrize("columns", [1, 5])
def test_a_mixture_can_start_from_clusters_of_one_row(columns: int) -> None:
    x = np.random.default_rng(0).normal(size=(30, columns))
    start = np.minimum(np.arange(30), 4)
    found = fit_mixture_from(x, start)
    assert found.shape == (30,)
    assert set(found) <= set(range(5))
