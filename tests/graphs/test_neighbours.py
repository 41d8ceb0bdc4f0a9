"""Neighbour graphs: neighbours, joined pairs and affinities."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from metalit.graphs import neighbour_graph


def table(n: int = 80, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def test_neighbours_are_the_nearest_other_rows() -> None:
    x = table()
    graph = neighbour_graph(x, neighbours=5)
    distances = cdist(x, x)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(graph.neighbours, np.argsort(distances, axis=1)[:, :5])
    assert np.allclose(graph.distances, np.sort(distances, axis=1)[:, :5])
    assert np.allclose(graph.scale, np.sort(distances, axis=1)[:, 4], rtol=1e-4)


def test_a_pair_is_joined_once_if_either_row_is_near_the_other() -> None:
    graph = neighbour_graph(table(), neighbours=5, joined=3)
    pairs = {(min(i, j), max(i, j)) for i in range(80) for j in graph.neighbours[i, :3].tolist()}
    assert set(zip(graph.low.tolist(), graph.high.tolist(), strict=True)) == pairs
    assert len(graph.low) == len(pairs)
    x = graph.table
    assert np.allclose(graph.lengths, np.linalg.norm(x[graph.low] - x[graph.high], axis=1))


def test_parts_are_joined_by_their_closest_rows() -> None:
    places = np.repeat([[0, 0], [50, 0], [100, 0]], 20, axis=0)
    x = table(60, 2) + places
    graph = neighbour_graph(x, neighbours=4)
    ones = np.ones(len(graph.low))
    adjacency = coo_array((ones, (graph.low, graph.high)), shape=(60, 60))
    assert connected_components(adjacency, directed=False)[0] == 1
    part = np.arange(60) // 20
    links = part[graph.low] != part[graph.high]
    assert links.sum() == 2
    for link in np.flatnonzero(links):
        ends = graph.low[link], graph.high[link]
        between = cdist(x[part == part[ends[0]]], x[part == part[ends[1]]])
        assert graph.lengths[link] == pytest.approx(between.min())


def test_affinities_are_self_tuning_gaussians() -> None:
    graph = neighbour_graph(table())
    one, other = graph.low[7], graph.high[7]
    near = np.sort(np.linalg.norm(graph.table - graph.table[one], axis=1))[7]
    near_other = np.sort(np.linalg.norm(graph.table - graph.table[other], axis=1))[7]
    expected = np.exp(-(graph.lengths[7] ** 2) / (near * near_other))
    assert graph.affinities[7] == pytest.approx(expected, rel=1e-4)


def test_equal_rows_and_two_rows_make_a_graph() -> None:
    for x in (np.zeros((12, 2)), table(2)):
        graph = neighbour_graph(x)
        assert (graph.scale > 0).all()
        assert np.isfinite(graph.affinities).all()
        assert len(graph.tree.lengths) == len(x) - 1


def test_reach_is_at_least_the_distance_of_either_end_to_its_fifth_neighbour() -> None:
    x = table()
    tree, distances = neighbour_graph(x).reach_tree, cdist(x, x)
    core = np.sort(distances, axis=1)[:, 5]  # the first is the row itself
    expected = np.maximum(core[tree.low], core[tree.high])
    expected = np.maximum(expected, distances[tree.low, tree.high])
    assert np.allclose(tree.lengths, expected)
