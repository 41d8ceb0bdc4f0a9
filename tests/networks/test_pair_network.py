"""The pair network: its start, its symmetries and its gradients."""

import numpy as np
import pytest
import torch

from metalit.graphs import neighbour_graph
from metalit.graphs.evidence import Evidence, gather_evidence, measure_geometry
from metalit.networks import PairNetwork

N, M = 50, 2


def evidence_of(order: np.ndarray, names: int = 1) -> Evidence:
    random = np.random.default_rng(0)
    table, partitions = random.normal(size=(N, 3)), random.integers(0, 3, (M, N))
    one, other = np.arange(N), (np.arange(N) * 3 + 1) % N
    place = np.argsort(order)  # where a row went
    graph = neighbour_graph(table[order])
    labels = (partitions * names % 3)[:, order]
    return gather_evidence(measure_geometry(graph, place[one], place[other]), labels, 3)


def trained() -> PairNetwork:
    torch.manual_seed(0)
    network = PairNetwork(M, hidden=8, blocks=2).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return network


def answer(network: PairNetwork, evidence: Evidence) -> tuple[dict[frozenset[int], float], list]:
    edges, pairs = network(evidence.like(next(network.parameters())))
    ends = zip(evidence.low.tolist(), evidence.high.tolist(), strict=True)
    return dict(zip(map(frozenset, ends), edges.tolist(), strict=True)), pairs.tolist()


def test_an_untrained_network_gives_what_is_known_without_learning() -> None:
    evidence = evidence_of(np.arange(N))
    edges, pairs = PairNetwork(M)(evidence)
    assert torch.allclose(edges.sigmoid(), evidence.edge_prior, atol=1e-6)
    assert torch.allclose(pairs.sigmoid(), evidence.pair_prior, atol=1e-6)


def test_the_order_of_the_rows_and_the_names_of_clusters_do_not_matter() -> None:
    network, order = trained(), np.random.default_rng(3).permutation(N)
    edges, pairs = answer(network, evidence_of(np.arange(N)))
    other_edges, other_pairs = answer(network, evidence_of(order, names=2))
    assert other_pairs == pytest.approx(pairs, abs=1e-5)
    for ends, odds in other_edges.items():
        assert edges[frozenset(int(order[end]) for end in ends)] == pytest.approx(odds, abs=1e-5)


def test_far_rows_are_seen_through_the_clusters_they_share() -> None:
    network, evidence = (
        trained(),
        evidence_of(np.arange(N)).like(torch.ones((), dtype=torch.float64)),
    )
    changed = evidence._replace(rows=evidence.rows.clone())
    changed.rows[0] += 1
    blind = evidence._replace(partitions=torch.zeros_like(evidence.partitions))
    before, after = network(evidence)[0], network(changed)[0]
    assert (before != after).all()
    assert not torch.allclose(before, network(blind)[0])


def test_gradients_reach_every_parameter() -> None:
    network = trained()
    edges, pairs = network(evidence_of(np.arange(N)).like(next(network.parameters())))
    (edges.square().sum() + pairs.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
