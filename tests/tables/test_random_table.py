"""Random tables: sizes, labels and difficulty of every family."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from metalit.tables import FAMILIES, PLANE, Plan, random_table
from metalit.tables.alterations import add_columns, lift, round_columns, skew_columns, warp
from metalit.tables.base import draw_sizes, rotation
from metalit.tables.makers import blobs

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@every_family
def test_a_family_draws_the_rows_that_were_planned(family) -> None:
    for seed, (n, k, d) in enumerate([(100, 2, 2), (240, 3, 5), (400, 12, 20), (700, 30, 60)]):
        x, y = random_table(np.random.default_rng(seed), Plan(n, k, d, 0.5), {family: 1.0})
        assert len(x) == len(y) == n
        assert np.isfinite(x).all()
        found = np.unique(y[y >= 0])
        assert found.tolist() == list(range(len(found)))
        assert 2 <= len(found) <= k


@every_family
def test_a_table_is_a_pure_function_of_its_generator(family) -> None:
    plan = Plan(200, 3, 4, 0.5)
    one, other = (random_table(np.random.default_rng(5), plan, {family: 1.0}) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


def test_tables_of_the_plane_stay_there_or_are_lifted_into_the_columns_that_were_planned() -> None:
    for planned, possible in ((2, {2, 3}), (9, {2, 3, 9, 10, 11, 12, 13})):
        plan = Plan(200, 3, planned, 0.2)
        tables = [random_table(np.random.default_rng(s), plan, PLANE)[0] for s in range(60)]
        widths = {table.shape[1] for table in tables}
        assert widths <= possible
    assert {2, 9} <= widths


def test_clusters_overlap_more_in_difficult_tables() -> None:
    scores = {}
    for difficulty in (0.0, 1.0):
        found = []
        for seed in range(20):
            x, y = blobs(np.random.default_rng(seed), Plan(200, 3, 4, difficulty))
            labels = KMeans(3, n_init=3, random_state=0).fit_predict(x)
            found.append(adjusted_rand_score(y, labels))
        scores[difficulty] = np.mean(found)
    assert scores[0.0] > 0.9
    assert scores[1.0] < scores[0.0] - 0.2


def test_sizes_add_up_and_none_is_below_the_least() -> None:
    for seed in range(50):
        random = np.random.default_rng(seed)
        n, k = int(random.integers(40, 300)), int(random.integers(2, 9))
        sizes = draw_sizes(random, n, k)
        assert sizes.sum() == n
        assert sizes.min() >= min(5, n // k)


def test_a_rotation_keeps_distances() -> None:
    turn = rotation(np.random.default_rng(0), 6)
    assert np.allclose(turn @ turn.T, np.eye(6))


def test_noise_points_have_no_cluster_and_lie_in_the_box() -> None:
    plan = Plan(300, 2, 2, 1.0)
    tables = [random_table(np.random.default_rng(s), plan, {blobs: 1.0}) for s in range(60)]
    shares = np.array([(y < 0).mean() for _, y in tables])
    assert 0.03 < (shares > 0).mean() < 0.3
    assert shares.max() < 0.21


@pytest.mark.parametrize("alter", [warp, skew_columns, round_columns])
def test_an_alteration_keeps_the_shape(alter) -> None:
    x = np.random.default_rng(0).normal(size=(50, 7))
    altered = alter(np.random.default_rng(1), x)
    assert altered.shape == x.shape
    assert np.isfinite(altered).all()
    assert not np.allclose(altered, x)


def test_skewed_columns_keep_the_order_of_the_rows() -> None:
    x = np.random.default_rng(0).normal(size=(50, 9))
    altered = skew_columns(np.random.default_rng(1), x)
    assert np.array_equal(np.argsort(x, axis=0), np.argsort(altered, axis=0))


def test_lifted_tables_keep_close_rows_close() -> None:
    x = np.random.default_rng(0).normal(size=(80, 2))
    for seed in range(10):
        lifted = lift(np.random.default_rng(seed), x, 9)
        assert lifted.shape == (80, 9)
        near = np.linalg.norm(x - x[0], axis=1)
        carried = np.linalg.norm(lifted - lifted[0], axis=1)
        assert np.corrcoef(near, carried)[0, 1] > 0.5


def test_added_columns_know_nothing_of_the_others() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 2))
    wider = add_columns(np.random.default_rng(1), x, 3)
    assert np.array_equal(wider[:, :2], x)
    assert np.abs(np.corrcoef(wider.T)[:2, 2:]).max() < 0.1
