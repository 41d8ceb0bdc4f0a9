"""Evidence on a table: what it may depend on, and its priors."""

import numpy as np
import pytest
import torch

from metalit.graphs import neighbour_graph
from metalit.graphs.evidence import (
    EDGE_FEATURES,
    PAIR_FEATURES,
    ROW_FEATURES,
    Evidence,
    _spread_along,
    gather_evidence,
    measure_geometry,
)
from metalit.graphs.trees import bottlenecks

N, M = 70, 3


def gather(table: np.ndarray, partitions: np.ndarray) -> Evidence:
    one = np.arange(N)
    geometry = measure_geometry(neighbour_graph(table), one, (one * 7 + 3) % N)
    return gather_evidence(geometry, partitions, 4)


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(0)
    return random.normal(size=(N, 5)) * [1, 1, 2, 3, 1], random.integers(0, 4, (M, N))


def assert_equal(one: Evidence, other: Evidence) -> None:
    for name, part in one._asdict().items():
        if isinstance(part, torch.Tensor):
            assert torch.allclose(part.double(), getattr(other, name).double(), atol=1e-4), name


def test_features_have_the_widths_that_networks_rely_on(drawn) -> None:
    evidence = gather(*drawn)
    edges = len(evidence.low)
    assert evidence.rows.shape == (N, ROW_FEATURES + 2 * M)
    assert evidence.edges.shape == (2, edges, EDGE_FEATURES + M)
    assert evidence.pairs.shape == (N, PAIR_FEATURES + M)
    for features in (evidence.rows, evidence.edges, evidence.pairs):
        assert features.isfinite().all()
        assert features.abs().max() <= 6


def test_order_rotation_and_number_of_the_columns_do_not_matter(drawn) -> None:
    table, partitions = drawn
    evidence = gather(table, partitions)
    assert_equal(evidence, gather(table[:, ::-1], partitions))
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    assert_equal(evidence, gather(table @ turn, partitions))
    assert_equal(evidence, gather(table + 3, partitions))


def test_edges_are_described_in_blocks_as_all_at_once(monkeypatch) -> None:
    graph = neighbour_graph(np.random.default_rng(0).normal(size=(60, 3)))
    at_once = _spread_along(graph, graph.low, graph.high)
    monkeypatch.setattr("metalit.graphs.evidence._CELLS", 7 * 12 * 3)
    assert np.array_equal(_spread_along(graph, graph.low, graph.high), at_once)


def test_the_scale_of_the_table_does_not_matter(drawn) -> None:
    table, partitions = drawn
    assert_equal(gather(table, partitions), gather(10 * table, partitions))


def test_names_of_clusters_do_not_matter(drawn) -> None:
    table, partitions = drawn
    other = gather(table, 3 - partitions)
    assert_equal(gather(table, partitions)._replace(partitions=other.partitions), other)


def test_an_edge_looks_alike_from_both_ends(drawn) -> None:
    table, partitions = drawn
    evidence = gather(table, partitions)
    back = gather(table[::-1].copy(), partitions[:, ::-1].copy())
    place = {
        (N - 1 - a, N - 1 - b): i
        for i, (a, b) in enumerate(zip(back.high.tolist(), back.low.tolist(), strict=True))
    }
    order = [
        place[ends] for ends in zip(evidence.low.tolist(), evidence.high.tolist(), strict=True)
    ]
    assert torch.allclose(evidence.edges, back.edges[:, order].flip(0), atol=1e-5)


def test_priors_are_shares_and_affinities(drawn) -> None:
    table, partitions = drawn
    evidence, graph = gather(table, partitions), neighbour_graph(table)
    share = (partitions[:, graph.low] == partitions[:, graph.high]).mean(axis=0)
    expected = np.clip((share + graph.affinities) / 2, 0.02, 0.98)
    assert evidence.edge_prior.numpy() == pytest.approx(expected, abs=1e-6)
    one, other = evidence.one.numpy(), evidence.other.numpy()
    share = (partitions[:, one] == partitions[:, other]).mean(axis=0)
    assert evidence.pair_prior.numpy() == pytest.approx(np.clip(share, 0.02, 0.98), abs=1e-6)


def test_ranks_and_shared_neighbours_are_counted(drawn) -> None:
    table, partitions = drawn
    evidence, graph = gather(table, partitions), neighbour_graph(table)
    near = graph.neighbours[:, :12].tolist()
    for edge in (0, 17, 101):
        low, high = int(graph.low[edge]), int(graph.high[edge])
        rank = near[low].index(high) / 12 if high in near[low] else 1.5
        assert evidence.edges[0, edge, 2].item() == pytest.approx(rank)
        shared = len({low, *near[low]} & {high, *near[high]})
        assert evidence.edges[0, edge, 8].item() == pytest.approx(shared / 12)


def test_gaps_are_bottlenecks_in_units_of_the_median_scale(drawn) -> None:
    table, partitions = drawn
    evidence, graph = gather(table, partitions), neighbour_graph(table)
    gaps = bottlenecks(graph.tree, evidence.one.numpy(), evidence.other.numpy())
    expected = np.log(gaps / np.median(graph.scale))
    assert evidence.pairs[:, 3].numpy() == pytest.approx(expected, abs=1e-2)


def test_a_row_says_which_number_of_clusters_is_told(drawn) -> None:
    evidence = gather(*drawn)
    assert evidence.rows[:, -2].numpy() == pytest.approx(np.full(N, np.log(4)), abs=1e-6)
