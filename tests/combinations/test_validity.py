"""The landmarks of partitions, against scikit-learn, scipy and sums by hand."""

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist
from sklearn.datasets import make_blobs
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

from metalit.combinations.validity import LANDMARKS, judge, survey


def blobs(n=90, centers=3, seed=0):
    return make_blobs(n, 2, centers=centers, cluster_std=0.5, random_state=seed)


def landmark(table, labels, name):
    return judge(survey(table), labels)[LANDMARKS.index(name)]


def neighbours(table, size):
    """Distances, and the nearest other rows of each row."""
    distances = cdist(table, table)
    return distances, np.argsort(distances + np.diag(np.full(len(table), np.inf)), axis=1)[:, :size]


def test_conductance_and_modularity_are_the_sums_over_the_graph():
    table, labels = survey(blobs()[0]).table, np.arange(90) % 4
    distances, near = neighbours(table, 10)
    scale = distances[np.arange(90), near[:, 4]]
    weights = np.zeros((90, 90))
    for i in range(90):
        for j in near[i]:
            similar = np.exp(-(distances[i, j] ** 2) / (scale[i] * scale[j]))
            weights[i, j] = weights[j, i] = similar
    total, cuts, modularity = weights.sum(), [], 0.0
    for cluster in range(4):
        rows = labels == cluster
        volume, kept = weights[rows].sum(), weights[rows][:, rows].sum()
        cuts.append(1 - kept / volume)
        modularity += kept / total - (volume / total) ** 2
    assert landmark(table, labels, "conductance") == pytest.approx(np.mean(cuts))
    assert landmark(table, labels, "worst_conductance") == pytest.approx(max(cuts))
    assert landmark(table, labels, "modularity") == pytest.approx(modularity)


def test_the_spanning_tree_is_that_of_scipy():
    geometry = survey(blobs()[0])
    distances, near = neighbours(geometry.table, 5)
    core = distances[np.arange(90), near[:, -1]]
    reach = np.maximum(distances, np.maximum(core[:, None], core[None]))
    np.fill_diagonal(reach, 0)
    found = np.sort(reach[geometry.heads, geometry.tails])
    np.testing.assert_allclose(found, np.sort(minimum_spanning_tree(reach).data))
    joined = np.log(reach[geometry.heads, geometry.tails])
    np.testing.assert_allclose(geometry.lengths, (joined - joined.mean()) / joined.std())


def test_separation_and_gap_compare_edges_of_the_tree():
    geometry, labels = survey(blobs()[0]), np.arange(90) // 30
    edges = [(*labels[[h, t]], length) for h, t, length in
             zip(geometry.heads, geometry.tails, geometry.lengths, strict=True)]  # fmt: skip
    expected = 0.0
    for cluster in range(3):
        within = max(length for one, other, length in edges if one == other == cluster)
        out = min(
            length for one, other, length in edges if one != other and cluster in (one, other)
        )
        expected += np.tanh(out - within) / 3
    within = np.mean([length for one, other, length in edges if one == other])
    between = np.mean([length for one, other, length in edges if one != other])
    assert judge(geometry, labels)[LANDMARKS.index("separation")] == pytest.approx(expected)
    assert judge(geometry, labels)[LANDMARKS.index("gap")] == pytest.approx(between - within)


def test_explained_variance_and_davies_bouldin_are_those_of_scikit_learn():
    table, labels = blobs()
    geometry = survey(table)
    explained = landmark(table, labels, "explained")
    ratio = explained / (1 - explained) * (90 - 3) / (3 - 1)
    assert ratio == pytest.approx(calinski_harabasz_score(geometry.table, labels))
    index = davies_bouldin_score(geometry.table, labels)
    assert np.exp(2 * landmark(table, labels, "davies_bouldin")) == pytest.approx(index)


def test_the_gaussian_landmark_is_the_gain_in_log_likelihood():
    random = np.random.default_rng(0)
    table = np.concatenate([random.normal(size=(4000, 1)) * 0.1 + 2 * side for side in (-1, 1)])
    # in standardised columns each half has a deviation of about 0.05, and a share of 1/2
    deviation = 0.1 / table.std()
    gain = np.log(1 / deviation) + np.log(0.5)
    labels = np.repeat([0, 1], 4000)
    assert landmark(table, labels, "gaussian") == pytest.approx(gain, abs=0.02)
    assert landmark(table, np.zeros(8000, dtype=int), "gaussian") == pytest.approx(0, abs=0.01)


def test_sizes_are_told_by_entropy_and_the_largest_share():
    labels = np.repeat([0, 1, 2], [45, 30, 15])
    shares = np.array([1 / 2, 1 / 3, 1 / 6])
    entropy = -(shares * np.log(shares)).sum()
    assert landmark(blobs()[0], labels, "entropy") == pytest.approx(entropy / 2)
    assert landmark(blobs()[0], labels, "largest") == pytest.approx(1 / 2)


def test_boundaries_of_the_true_clusters_run_through_thinner_regions_than_others():
    random = np.random.default_rng(0)
    table = random.normal(size=(200, 2))
    table[100:, 0] += 3.5
    truth, across = np.repeat([0, 1], 100), (table[:, 1] > 0).astype(int)
    true, false = (landmark(table, labels, "boundary_density") for labels in (truth, across))
    assert true > false + 0.5


def test_landmarks_depend_neither_on_scale_nor_on_order_nor_on_the_numbers_of_clusters():
    table, labels = blobs()
    order = np.random.default_rng(1).permutation(90)
    changed = judge(survey((table * [2.0, 300.0] + 7)[order]), np.array([9, -1, 4])[labels[order]])
    np.testing.assert_allclose(changed, judge(survey(table), labels), atol=1e-6)


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        (np.zeros((12, 2)), np.arange(12) % 3),
        (np.ones((2, 1)), np.array([0, 0])),
        (np.arange(3.0)[:, None], np.arange(3)),
        (np.repeat(blobs(20)[0], 8, axis=0), np.repeat(np.arange(20), 8)),
        (np.column_stack([blobs()[0], np.ones(90)]), np.zeros(90, dtype=int)),
        (blobs()[0] * [1e6, 1e-9], np.arange(90)),
    ],
    ids=["equal rows", "two equal rows", "every row", "copies", "constant column", "singletons"],
)
def test_landmarks_are_of_order_one_for_any_partition(table, labels):
    values = judge(survey(table), labels)
    assert values.shape == (len(LANDMARKS),)
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 5


def test_columns_that_do_not_vary_change_nothing():
    table, labels = blobs()
    wide = np.column_stack([table, np.full((90, 12), 3.7)])
    np.testing.assert_allclose(judge(survey(wide), labels), judge(survey(table), labels))
