"""Spanning trees against SciPy, Genie against its definition, cuts of known trees."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet, fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score

from metalit.graphs import SpanningTree, cut_dense, genie, spanning_tree
from metalit.graphs.trees import bottlenecks


def complete(x: np.ndarray) -> SpanningTree:
    low, high = np.triu_indices(len(x), 1)
    return spanning_tree(len(x), low, high, pdist(x))


def table(n: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2))


def slow_genie(x: np.ndarray, k: int, threshold: float) -> np.ndarray:
    """Genie by its definition: single linkage between all parts, from all distances."""
    distances = squareform(pdist(x))
    parts = [[row] for row in range(len(x))]
    while len(parts) > k:
        sizes = np.array([len(part) for part in parts])
        differences = np.abs(sizes[:, None] - sizes).sum() / 2
        gini = differences / ((len(parts) - 1) * len(x))
        best = (np.inf, 0, 0)
        for i in range(len(parts)):
            for j in range(i + 1, len(parts)):
                if gini > threshold and sizes.min() not in (sizes[i], sizes[j]):
                    continue
                best = min(best, (distances[np.ix_(parts[i], parts[j])].min(), i, j))
        parts[best[1]] += parts.pop(best[2])
    labels = np.zeros(len(x), dtype=int)
    for number, part in enumerate(parts):
        labels[part] = number
    return labels


def test_the_tree_of_all_pairs_is_single_linkage() -> None:
    x = table()
    tree = complete(x)
    expected = linkage(x, "single")
    assert np.allclose(tree.lengths, expected[:, 2])
    assert np.allclose(tree.merges[:, 2], expected[:, 2])
    for k in (2, 5, 17):
        assert adjusted_rand_score(
            fcluster(tree.merges, k, "maxclust"), fcluster(expected, k, "maxclust")
        ) == pytest.approx(1)


def test_a_bottleneck_is_the_longest_edge_on_the_way() -> None:
    tree = complete(np.array([[0.0, 0], [1, 0], [3, 0], [3.5, 0], [9, 0]]))
    one, other = np.array([0, 0, 3, 4, 1]), np.array([1, 3, 2, 0, 2])
    assert np.allclose(bottlenecks(tree, one, other), [1, 2, 0.5, 5.5, 2])


@pytest.mark.parametrize("n", [2, 3, 40, 65])
def test_bottlenecks_of_all_pairs_are_cophenetic_distances(n: int) -> None:
    x = table(n)
    one, other = np.triu_indices(n, 1)
    expected = cophenet(linkage(x, "single"))
    assert np.allclose(bottlenecks(complete(x), one, other), expected)
    assert np.allclose(bottlenecks(complete(x), other, one), expected)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_genie_is_what_its_definition_says(threshold: float) -> None:
    for seed in range(4):
        x = table(30, seed)
        tree = complete(x)
        for k in (1, 2, 4, 9, 30):
            found = genie(tree, [k], threshold)[0]
            assert adjusted_rand_score(found, slow_genie(x, k, threshold)) == pytest.approx(1)


def test_genie_gives_several_numbers_at_once_as_one_by_one() -> None:
    tree = complete(table(60))
    together = genie(tree, [7, 2, 7, 30])
    for place, k in enumerate((7, 2, 7, 30)):
        assert np.array_equal(together[place], genie(tree, [k])[0])
        assert len(np.unique(together[place])) == k


def test_cuts_find_dense_parts_and_do_not_count_strays() -> None:
    x, y = make_moons(200, noise=0.05, random_state=0)
    strays = np.array([[4.0, 4.0], [-4.0, -4.0], [4.0, -4.0]])
    labels = cut_dense(complete(np.concatenate([x, strays])), 2, least=10)
    assert adjusted_rand_score(y, labels[:200]) == pytest.approx(1)
    assert set(labels.tolist()) == {0, 1}  # strays join the cluster that they hang on


def test_a_part_of_just_the_least_number_of_rows_is_large_enough() -> None:
    x = np.array([[0.0], [1], [2], [10], [11]])
    assert cut_dense(complete(x), 2, least=2).tolist() in ([0, 0, 0, 1, 1], [1, 1, 1, 0, 0])
    assert cut_dense(complete(x), 2, least=3).tolist() == [0] * 5


def test_cuts_stop_where_no_part_is_large_enough() -> None:
    x, y = make_blobs([30, 30, 30], random_state=0, cluster_std=0.3)
    labels = cut_dense(complete(x), 20, least=16)
    assert adjusted_rand_score(y, labels) == pytest.approx(1)


def test_a_stray_joins_the_nearest_part_along_the_tree() -> None:
    x = np.array([[0.0], [1], [2], [10], [11], [12], [4.5], [4.6], [7.9]])
    labels = cut_dense(complete(x), 2, least=3)
    assert labels[[6, 7]].tolist() == [labels[0]] * 2
    assert labels[8] == labels[3]
