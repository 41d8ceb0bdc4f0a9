"""Spectral embeddings against dense linear algebra."""

import numpy as np
import pytest
from scipy.linalg import eigh

from metalit.graphs import neighbour_graph, spectral, spectral_embedding


def reference(n, low, high, weights, k):
    w = np.zeros((n, n))
    w[low, high] = w[high, low] = weights
    degree = np.diag(w.sum(axis=1))
    values, vectors = eigh(degree - w, degree)  # smallest eigenvalues of the random walk
    return values[:k], vectors[:, :k]


@pytest.mark.parametrize("n", [60, 450])  # dense and sparse
def test_the_embedding_solves_the_generalised_eigenproblem(n: int) -> None:
    graph = neighbour_graph(np.random.default_rng(0).normal(size=(n, 3)))
    edges = n, graph.low, graph.high, graph.affinities
    found = spectral_embedding(*edges, 5)
    _, vectors = reference(*edges, 5)
    vectors /= np.sqrt((vectors**2).mean(axis=0))
    cosines = np.abs((found * vectors).mean(axis=0))
    assert cosines == pytest.approx(np.ones(5), abs=1e-6)
    assert np.allclose(np.abs(found[:, 0]), 1)


def test_without_a_factor_the_embedding_is_nearly_the_same(monkeypatch) -> None:
    graph = neighbour_graph(np.random.default_rng(0).normal(size=(450, 3)))
    edges = 450, graph.low, graph.high, graph.affinities
    expected = spectral_embedding(*edges, 4)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Factor is exactly singular")

    monkeypatch.setattr(spectral, "splu", fail)
    cosines = np.abs((spectral_embedding(*edges, 4) * expected).mean(axis=0))
    assert cosines == pytest.approx(np.ones(4), abs=1e-2)


def test_the_embedding_is_the_same_each_time() -> None:
    graph = neighbour_graph(np.random.default_rng(1).normal(size=(420, 2)))
    edges = 420, graph.low, graph.high, graph.affinities
    assert np.array_equal(spectral_embedding(*edges, 4), spectral_embedding(*edges, 4))
