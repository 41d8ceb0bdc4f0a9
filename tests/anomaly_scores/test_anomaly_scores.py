"""Classical anomaly scores against scikit-learn, SciPy and their formulas."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import Ridge
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from metalit.anomaly_scores import AnomalyScores, Calibration, ShiftScores, central_rows
from metalit.anomaly_scores.neighbours import FLOOR

NAMES = list(AnomalyScores.NAMES)


@pytest.fixture(scope="module")
def tables():
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(4, 4))
    return draw.normal(size=(90, 4)) @ mixing + 3, draw.normal(size=(25, 4)) @ mixing * 1.5 + 3


@pytest.fixture(scope="module")
def scaled(tables):
    scaler = StandardScaler().fit(tables[0])
    return scaler.transform(tables[0]), scaler.transform(tables[1])


@pytest.fixture(scope="module")
def found(tables):
    scores = AnomalyScores(torch.from_numpy(tables[0]))
    new = scores(torch.from_numpy(tables[1]))
    return {name: (scores.scores[:, k].numpy(), new[:, k].numpy()) for k, name in enumerate(NAMES)}


@pytest.mark.parametrize(("name", "k"), [("1", 1), ("5", 5), ("20", 20), ("tenth", 9)])
@pytest.mark.parametrize(("space", "p"), [("standard", 2), ("manhattan", 1)])
def test_mean_distances_are_those_of_scikit_learn_without_the_row_itself(
    found, scaled, space, p, name, k
):
    index = NearestNeighbors(n_neighbors=k, p=p).fit(scaled[0])
    for place, query in enumerate((None, scaled[1])):
        expected = np.log(index.kneighbors(query)[0].mean(1) + FLOOR)
        np.testing.assert_allclose(found[f"{space}_{name}"][place], expected, atol=1e-5)


def test_the_local_outlier_factor_is_that_of_scikit_learn(found, scaled):
    itself = -LocalOutlierFactor(20).fit(scaled[0]).negative_outlier_factor_
    new = -LocalOutlierFactor(20, novelty=True).fit(scaled[0]).score_samples(scaled[1])
    for place, expected in enumerate((itself, new)):
        np.testing.assert_allclose(
            found["standard_lof"][place], np.log(expected + FLOOR), atol=1e-4
        )


def test_of_neighbours_at_the_same_distance_the_local_outlier_factor_takes_all():
    # in a lattice the 20th neighbour ties with others: which one is taken must not depend on order
    axes = torch.arange(8.0)
    lattice = torch.cartesian_prod(axes, axes).index_fill(0, torch.tensor([0, 9]), 20.0)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    place = NAMES.index("standard_lof")
    scores, moved = (AnomalyScores(rows).scores[:, place] for rows in (lattice, lattice[order]))
    torch.testing.assert_close(moved, scores[order], atol=1e-5, rtol=0)


def test_trimming_leaves_the_rows_in_the_middle(scaled):
    rows = np.concatenate([scaled[0], np.full((20, 4), 8.0) + 0.01 * scaled[0][:20]])
    scores = AnomalyScores(torch.from_numpy(rows)).scores
    near, trimmed = (scores[:, NAMES.index(f"standard_{n}")] for n in ("5", "trimmed"))
    assert near[90:].mean() < near[:90].mean()  # a cluster of anomalies is dense
    assert trimmed[90:].min() > trimmed[:90].max()


def test_central_rows_are_three_fifths_without_a_cluster_of_anomalies(scaled):
    rows = torch.from_numpy(np.concatenate([scaled[0], 6 + 0.01 * scaled[0][:20]]))
    central = central_rows(rows)
    assert len(central) == 66
    assert central.max() < 90
    assert torch.equal(central, central.unique())
    assert torch.equal(central_rows(5 + 3 * rows), central)


def test_of_few_rows_ten_are_central_and_of_equal_ones_any():
    rows = torch.arange(12.0)[:, None]
    assert len(central_rows(rows)) == 10
    assert len(central_rows(torch.zeros(3, 2))) == 3


def test_ranks_are_normal_quantiles_and_ignore_monotone_changes_of_a_column(tables):
    context, query = (torch.from_numpy(table) for table in tables)
    scores = AnomalyScores(context)
    ranks = scores.represent(context)[2]
    expected = norm.ppf(np.clip((rankdata(tables[0], axis=0) - 0.5) / 90, 1 / 180, 1 - 1 / 180))
    np.testing.assert_allclose(ranks, StandardScaler().fit_transform(expected), atol=1e-8)
    other = AnomalyScores((context / 3).exp())((query / 3).exp())
    places = [k for k, name in enumerate(NAMES) if name.startswith("rank_")]
    np.testing.assert_allclose(other[:, places], scores(query)[:, places], atol=1e-6)


def test_whitened_columns_are_uncorrelated_and_mahalanobis_orders_as_scikit_learn(
    found, tables, scaled
):
    scores = AnomalyScores(torch.from_numpy(tables[0]))
    covariance = scores.represent(torch.from_numpy(tables[0]))[3].T.cov()
    assert torch.allclose(covariance, covariance.diagonal().diag(), atol=1e-8)
    shrunk = EmpiricalCovariance(assume_centered=True).fit(scaled[0]).covariance_
    shrunk = shrunk + (0.1 + 1e-6) * np.eye(4)
    expected = np.einsum("ij,jk,ik->i", scaled[1], np.linalg.inv(shrunk), scaled[1])
    np.testing.assert_allclose(found["mahalanobis"][1], np.log(expected + 1e-6), atol=1e-6)


def test_the_misfit_of_a_column_is_that_of_a_ridge_regression_on_the_others(found, scaled):
    context, query = scaled
    residuals = []
    for column in range(4):
        others = np.delete(np.arange(4), column)
        model = Ridge(alpha=0.05 * 90, fit_intercept=False)
        model.fit(context[:, others], context[:, column])
        own = context[:, column] - model.predict(context[:, others])
        # the ridge also shrinks the column itself, which changes no order but the scale
        new = query[:, column] - model.predict(query[:, others])
        residuals.append(np.abs(new) / own.std())
    expected = np.log(np.max(residuals, axis=0) + 1e-3)
    np.testing.assert_allclose(found["misfit"][1], expected, atol=1e-6)


def test_tails_and_histograms_are_their_formulas(found, scaled):
    context, query = scaled
    left = -np.log(np.maximum((context[None] <= query[:, None]).sum(1), 0.5) / 90)
    right = -np.log(np.maximum((context[None] >= query[:, None]).sum(1), 0.5) / 90)
    skewed = np.where((context**3).mean(0) < 0, left, right)
    ecod = np.max([side.sum(1) for side in (left, right, skewed)], axis=0)
    np.testing.assert_allclose(found["ecod"][1], np.log(ecod + 0.1))
    np.testing.assert_allclose(found["rarest"][1], np.maximum(left, right).max(1))
    expected = np.zeros(25)
    for column in range(4):
        counts, edges = np.histogram(context[:, column], bins=9)
        places = np.searchsorted(edges, query[:, column], side="right") - 1
        inside = (places >= 0) & (places < 9)
        expected -= np.log((np.where(inside, counts[places.clip(0, 8)], 0) + 0.5) / 90)
    np.testing.assert_allclose(found["hbos"][1], expected)


def test_no_score_hangs_on_the_order_of_rows_or_columns(tables):
    context, query = (torch.from_numpy(table) for table in tables)
    draw = torch.Generator().manual_seed(0)
    rows, columns = torch.randperm(90, generator=draw), torch.randperm(4, generator=draw)
    one, other = AnomalyScores(context), AnomalyScores(context[rows][:, columns])
    assert torch.allclose(one(query), other(query[:, columns]), atol=1e-5)
    assert torch.allclose(one.scores[rows], other.scores, atol=1e-5)
    assert torch.allclose(one.descriptors, other.descriptors)


@pytest.mark.parametrize("shape", [(2, 1), (3, 7), (40, 1), (30, 300), (300, 210)])
def test_tables_of_any_size_get_finite_scores(shape):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    scores = AnomalyScores(x)
    assert scores.scores.shape == (shape[0], len(NAMES))
    assert torch.isfinite(scores.scores).all()
    assert torch.isfinite(scores(x[:2] + 1)).all()
    assert torch.isfinite(scores.descriptors).all()


def test_wide_tables_keep_their_distances(tables):
    wide = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)).double()
    scores = AnomalyScores(wide)
    scaled = StandardScaler().fit_transform(wide.numpy())
    expected = NearestNeighbors(n_neighbors=5).fit(scaled).kneighbors()[0].mean(1)
    place = NAMES.index("standard_5")
    np.testing.assert_allclose(scores.scores[:, place], np.log(expected + FLOOR), atol=1e-6)


def test_calibration_takes_median_and_quartiles_away():
    scores = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double()
    scaled = scores * torch.tensor([1.0, 50.0, 0.1]) + 7
    one, other = Calibration(scores), Calibration(scaled)
    values, ranks = other(scaled)
    assert torch.allclose(values.median(0).values, torch.zeros(3).double(), atol=0.02)
    quartiles = values.quantile(torch.tensor([0.25, 0.75]).double(), dim=0)
    assert torch.allclose(quartiles.diff(dim=0), torch.ones(3).double())
    assert torch.allclose(values, one(scores)[0], atol=1e-2)
    assert torch.allclose(ranks.sort(0).values[:, 0], (torch.arange(200) + 0.5).double() / 200)
    assert other.descriptors.shape == (3, Calibration.N_DESCRIPTORS)


def test_a_shift_is_seen_where_the_query_is_denser_than_the_context():
    draw = torch.Generator().manual_seed(0)
    context = torch.randn(200, 3, generator=draw)
    anomalies = 2.5 + 0.3 * torch.randn(40, 3, generator=draw)
    query = torch.cat([torch.randn(60, 3, generator=draw), anomalies])
    shift = ShiftScores(AnomalyScores(context), query)
    assert shift.own.shape == (100, len(ShiftScores.NAMES))
    assert shift.context.shape == (200, len(ShiftScores.NAMES))
    assert (shift.own[60:].amin(0) > shift.own[:60].median(0).values).all()
    assert (shift(anomalies[:3] + 0.01) > shift.context.quantile(0.95, dim=0)).all()
