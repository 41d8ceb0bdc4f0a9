"""Classical and learned partitions, and what is expected of one."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs, make_circles
from sklearn.metrics import adjusted_rand_score

from metalit.graphs import neighbour_graph, spectral_embedding
from metalit.partitions import (
    CLASSICAL,
    Candidate,
    Pairs,
    candidates,
    classical,
    classical_partitions,
    expected_adjusted_rand,
    learned_partitions,
    membership,
    strength,
)
from metalit.partitions.classical import principal_columns, smallest_part


def test_with_the_truth_as_probabilities_the_expected_index_is_the_adjusted_rand_index() -> None:
    random = np.random.default_rng(0)
    one, other = np.triu_indices(60, 1)
    for _ in range(20):
        truth, labels = random.integers(0, 4, 60), random.integers(0, 3, 60)
        labels[:30] = truth[:30]
        probabilities = (truth[one] == truth[other]).astype(float)
        together = (labels[one] == labels[other]).astype(float)
        found = expected_adjusted_rand(np.stack([together, probabilities]), probabilities[None])
        assert found[:, 0] == pytest.approx([adjusted_rand_score(truth, labels), 1])
        assert Pairs(one, other, probabilities).judge(labels) == pytest.approx(found[0, 0])


def test_partitions_of_one_cluster_or_of_single_rows_are_worth_nothing() -> None:
    probabilities = np.random.default_rng(0).random((1, 100))
    for together in (np.zeros((1, 100)), np.ones((1, 100))):
        assert expected_adjusted_rand(together, probabilities) == pytest.approx(0)
    assert expected_adjusted_rand(np.ones((1, 100)), np.ones((1, 100))) <= 1


@pytest.fixture(scope="module")
def blobs():
    x, y = make_blobs(200, centers=[[0, 0], [9, 0], [0, 9], [9, 9]], random_state=0)
    return neighbour_graph(x.astype(np.float64)), y


def test_every_classical_algorithm_finds_blobs_that_lie_apart(blobs) -> None:
    graph, y = blobs
    partitions = classical_partitions(graph, [4])[0]
    assert partitions.shape == (len(CLASSICAL), 200)
    for name, labels in zip(CLASSICAL, partitions, strict=True):
        assert adjusted_rand_score(y, labels) > 0.95, name


def test_ward_is_scipys(blobs) -> None:
    graph, _ = blobs
    found = classical_partitions(graph, [3])[0][CLASSICAL.index("ward")]
    expected = fcluster(linkage(graph.table, "ward"), 3, "maxclust")
    assert adjusted_rand_score(expected, found) == 1


def test_graph_algorithms_find_what_is_not_round() -> None:
    x, y = make_circles(300, factor=0.4, noise=0.03, random_state=0)
    partitions = classical_partitions(neighbour_graph(x), [2])[0]
    scores = dict(zip(CLASSICAL, [adjusted_rand_score(y, p) for p in partitions], strict=True))
    assert scores["k-means"] < 0.2
    assert min(scores[name] for name in ("spectral", "genie", "dense")) == 1


def test_spectral_clustering_is_k_means_of_the_embedding_and_of_its_directions() -> None:
    x, _ = make_blobs(150, centers=6, cluster_std=3, random_state=1)
    graph = neighbour_graph(x.astype(np.float64))
    weights = np.maximum(graph.affinities, 1e-3)
    embedding = spectral_embedding(150, graph.low, graph.high, weights, 6)
    scaled = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    partitions = classical_partitions(graph, [6], random_state=5)[0]
    for name, columns in (("spectral", embedding), ("normalised spectral", scaled)):
        expected = KMeans(6, n_init=3, random_state=5).fit_predict(columns)
        found = partitions[CLASSICAL.index(name)]
        assert adjusted_rand_score(expected, found) == 1, name
    assert adjusted_rand_score(*partitions[3:5]) < 1  # else the test could not tell them apart


def test_a_part_that_is_cut_off_has_a_tenth_of_the_mean_rows() -> None:
    assert smallest_part(1000, 5) == 20
    assert smallest_part(60, 5) == 4
    assert smallest_part(6, 5) == 1


def test_numbers_of_clusters_are_answered_together_as_alone(blobs) -> None:
    graph, _ = blobs
    together = classical_partitions(graph, [2, 5])
    for name, one, alone in zip(
        CLASSICAL, together[1], classical_partitions(graph, [5])[0], strict=True
    ):
        assert adjusted_rand_score(one, alone) > 0.999, name


def test_certain_probabilities_give_their_own_partition(blobs) -> None:
    graph, y = blobs
    probabilities = np.where(y[graph.low] == y[graph.high], 0.97, 0.02)
    one, other = np.triu_indices(200, 1)
    pairs = Pairs(one, other, (y[one] == y[other]).astype(float))
    found = learned_partitions(graph, probabilities, range(2, 8), pairs, 0, spectral=2)
    best = {c.method: adjusted_rand_score(y, c.labels) for c in found if c.k == 4}
    assert len(best) == 5  # spectral partitions were made for the true number
    assert min(best.values()) == pytest.approx(1)
    assert sum(c.method == "learned spectral" for c in found) == 2


def test_a_candidate_counts_the_clusters_that_are_there() -> None:
    candidate = Candidate.of("", np.array([5, 2, 5, 9]))
    assert candidate.k == 3
    assert candidate.labels.tolist() == [1, 0, 1, 2]


def test_a_row_keeps_its_label_whatever_its_neighbours_say(blobs) -> None:
    graph, _ = blobs
    labels = np.random.default_rng(0).integers(0, 3, 200)
    shares = membership(graph, np.ones(len(graph.low)), labels)
    assert np.array_equal(shares.argmax(axis=1), labels)
    assert np.allclose(shares.sum(axis=1), 1)
    row = 11
    ends = np.concatenate([graph.high[graph.low == row], graph.low[graph.high == row]])
    votes = np.bincount(labels[ends], minlength=3) / len(ends)
    assert np.allclose(shares[row], 0.501 * np.eye(3)[labels[row]] + 0.499 * votes)


def test_strength_is_the_mean_over_a_rows_edges(blobs) -> None:
    graph, _ = blobs
    probabilities = np.random.default_rng(0).random(len(graph.low))
    row = 5
    at = (graph.low == row) | (graph.high == row)
    assert strength(graph, probabilities)[row] == pytest.approx(probabilities[at].mean())


def test_a_mixture_sees_the_principal_components_of_very_many_columns(monkeypatch) -> None:
    table = np.random.default_rng(0).normal(size=(30, 400)) + 7
    narrow = principal_columns(table)
    assert narrow.shape == (30, 30)
    assert np.allclose(pdist(narrow), pdist(table))
    assert np.allclose(narrow.mean(axis=0), 0)
    assert principal_columns(narrow) is narrow
    widths = []
    for module, name in ((classical, "fit_mixture"), (candidates, "fit_mixture_from")):
        original = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda x, *more, original=original: (widths.append(x.shape[1]), original(x, *more))[1],
        )
    graph = neighbour_graph(np.repeat(table, 5, axis=0) + np.eye(150, 400))
    classical_partitions(graph, [2])
    pairs = Pairs(graph.low, graph.high, graph.affinities)
    found = learned_partitions(graph, graph.affinities, [2], pairs, 0)
    assert [candidate.method for candidate in found].count("learned mixture") == 1
    assert widths == [100, 100]
