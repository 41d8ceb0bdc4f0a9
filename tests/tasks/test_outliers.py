"""Anomalies of each kind, checked against the mixture they belong to."""

import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import roc_auc_score

from metalit.tasks.outliers import (
    KINDS,
    GaussianMixture,
    OutlierTasks,
    cluster_anomalies,
    dependency_anomalies,
    global_anomalies,
    local_anomalies,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def mixture():
    """Two Gaussians in the plane with strongly dependent features."""
    factors = torch.tensor([[[1.0, 0.0], [0.9, 0.1]], [[0.5, 0.0], [-0.4, 0.2]]])
    return GaussianMixture(torch.tensor([[-4.0, 0.0], [4.0, 2.0]]), factors)


def test_normal_rows_have_the_mean_and_covariance_of_the_mixture(mixture):
    rows = mixture.draw(40000, seeded(0))
    covariances = mixture.factors @ mixture.factors.mT
    centred = mixture.means - mixture.means.mean(0)
    expected = covariances.mean(0) + centred.T @ centred / 2
    assert torch.allclose(rows.mean(0), mixture.means.mean(0), atol=0.1)
    assert torch.allclose(rows.T.cov(), expected, atol=0.15)


def test_local_anomalies_have_five_times_the_covariance_around_the_same_means():
    mixture = GaussianMixture(torch.tensor([[3.0, -1.0]]), torch.tensor([[[1.0, 0.0], [0.9, 0.1]]]))
    rows = local_anomalies(mixture, 20000, seeded(0))
    factor = mixture.factors[0]
    assert torch.allclose(rows.mean(0), mixture.means[0], atol=0.1)
    assert torch.allclose(rows.T.cov(), 5 * factor @ factor.T, atol=0.2)


def test_global_anomalies_fill_the_box_of_the_normal_rows(mixture):
    rows = global_anomalies(mixture, 20000, seeded(0))
    box = mixture.draw(500, seeded(0))
    half = (box.amax(0) - box.amin(0)) / 2
    assert torch.allclose(rows.mean(0), (box.amax(0) + box.amin(0)) / 2, atol=0.1)
    assert torch.allclose(rows.amax(0) - rows.mean(0), 1.1 * half, atol=0.1)
    assert torch.allclose(rows.std(0), 1.1 * half / 3**0.5, rtol=0.05)  # of a uniform


def test_cluster_anomalies_are_far_and_close_together(mixture):
    spread = mixture.draw(2000, seeded(1)).std(0).norm().item()
    for seed in range(10):
        rows = cluster_anomalies(mixture, 500, seeded(seed))
        distance = (rows.mean(0) - mixture.means.mean(0)).norm().item()
        assert distance == pytest.approx(3 * spread, rel=0.1)
        assert rows.std(0).norm() < 0.2 * spread


def test_dependency_anomalies_keep_the_marginals_and_lose_the_correlation(mixture):
    normal, rows = mixture.draw(20000, seeded(0)), dependency_anomalies(mixture, 20000, seeded(1))
    quantiles = torch.linspace(0.02, 0.98, 25)
    assert torch.allclose(normal.quantile(quantiles, 0), rows.quantile(quantiles, 0), atol=0.3)
    assert normal.T.corrcoef()[0, 1] > 0.5
    assert rows.T.corrcoef()[0, 1].abs() < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_that_knows_normal_data_finds_each_kind(kind):
    tasks = OutlierTasks(300, 100, 5, 0.2, components=(1, 1), kinds=[kind])
    areas = []
    for seed in range(20):
        support, query = tasks.sample(seeded(seed))
        distances = EmpiricalCovariance().fit(support.x.numpy()).mahalanobis(query.x.numpy())
        areas.append(roc_auc_score(query.y, distances))
    assert sum(areas) / len(areas) > 0.75


def test_the_support_is_normal_and_standardised_and_the_query_has_its_share_of_anomalies():
    support, query = OutlierTasks(50, 40, 6, contamination=0.25).sample(seeded(0))
    assert support.x.shape == (50, 6)
    assert query.x.shape == (40, 6)
    assert support.x.dtype == query.x.dtype == torch.float32
    assert support.y.dtype == query.y.dtype == torch.int64
    assert not support.y.any()
    assert query.y.sum() == 10
    assert torch.allclose(support.x.mean(0), torch.zeros(6), atol=1e-5)
    assert torch.allclose(support.x.std(0), torch.ones(6), atol=1e-5)


def test_anomalies_stand_anywhere_in_the_query():
    places = [OutlierTasks().sample(seeded(s)).query.y.nonzero().float().mean() for s in range(30)]
    assert torch.stack(places).mean() == pytest.approx(49.5, abs=8)


def test_normal_query_rows_come_from_the_support_distribution():
    tasks = OutlierTasks(2000, 2000, 4, contamination=0.001)
    support, query = tasks.sample(seeded(1))
    normal = query.x[query.y == 0]
    assert torch.allclose(normal.mean(0), support.x.mean(0), atol=0.15)
    assert torch.allclose(normal.T.cov(), support.x.T.cov(), atol=0.2)


def test_only_the_kinds_asked_for_are_drawn():
    def marked(mixture, n, generator):
        return torch.full((n, mixture.means.shape[1]), 1e6)

    query = OutlierTasks(kinds=[marked]).sample(seeded(0)).query
    assert torch.equal(query.x.amin(1) > 1e4, query.y == 1)


def test_an_outlier_episode_is_a_pure_function_of_its_generator():
    for seed in range(8):
        first, again = (OutlierTasks().sample(seeded(seed)) for _ in range(2))
        assert torch.equal(first.support.x, again.support.x)
        assert torch.equal(first.query.x, again.query.x)
        assert torch.equal(first.query.y, again.query.y)


@pytest.mark.parametrize(
    "args",
    [
        {"n_support": 1},
        {"features": 1},
        {"components": (3, 1)},
        {"contamination": 0.0},
        {"contamination": 1.0},
        {"contamination": 0.001},
        {"kinds": []},
    ],
)
def test_settings_without_a_task_are_refused_at_once(args):
    with pytest.raises(ValueError, match=r"but .*: "):
        OutlierTasks(**args)
