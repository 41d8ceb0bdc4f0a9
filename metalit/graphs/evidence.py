"""What a network may know of the rows, edges and pairs of a table, whatever its columns are."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, eye_array
from torch import Tensor

from .neighbours import NeighbourGraph
from .trees import bottlenecks, spanning_tree
from .types import Floats, Integers

ROW_FEATURES = 8  # beside two for each partition
EDGE_FEATURES = 10  # beside one for each partition
PAIR_FEATURES = 9  # beside one for each partition

_JOINED = 12  # neighbours that count for ranks, shared neighbours and spread
_CELLS = 2**22  # cells of neighbours that are held at once: 32 MiB


class Evidence(NamedTuple):
    """Numbers of order 1 on n rows, E edges and R other pairs, and M partitions.

    None depends on the order or a rotation of the columns, and no shape on how many there are.

    Attributes:
        rows: Shape `(n, ROW_FEATURES + 2 M)`.
        edges: As seen from either end, `(2, E, EDGE_FEATURES + M)`.
        pairs: Shape `(R, PAIR_FEATURES + M)`.
        low: One end of each edge, `(E,)`.
        high: The other end.
        one: One row of each pair, `(R,)`.
        other: The other row.
        partitions: Clusters of the rows, `(M, n)`, in `[0, k)`.
        k: Number of clusters in the partitions.
        edge_prior: Probability, in (0, 1), that an edge joins rows of one cluster, by what is
            known without learning, `(E,)`.
        pair_prior: The same of the pairs, `(R,)`.
    """

    rows: Tensor
    edges: Tensor
    pairs: Tensor
    low: Tensor
    high: Tensor
    one: Tensor
    other: Tensor
    partitions: Tensor
    k: int
    edge_prior: Tensor
    pair_prior: Tensor

    def like(self, parameter: Tensor) -> "Evidence":
        """Bring all tensors to the device of a network's parameter, features to its dtype too."""
        parts = self._asdict()
        k = parts.pop("k")
        moved = {
            name: part.to(parameter) if part.is_floating_point() else part.to(parameter.device)
            for name, part in parts.items()
        }
        return Evidence(**moved, k=k)


class Geometry(NamedTuple):
    """What is known of n rows, E edges and R other pairs before there are partitions.

    Attributes:
        graph: Neighbour graph of the rows.
        one: One row of each pair, `(R,)`.
        other: The other row.
        rows: Density, its slope and popularity, `(n, 5)`.
        edges: Length, ranks, shared neighbours and direction, from either end, `(2, E, 9)`.
        pairs: Distances and the widest gaps on the way, `(R, 8)`.
    """

    graph: NeighbourGraph
    one: Integers
    other: Integers
    rows: Floats
    edges: Floats
    pairs: Floats


def measure_geometry(graph: NeighbourGraph, one: Integers, other: Integers) -> Geometry:
    """Describe the rows and edges of a graph, and pairs of rows, whatever their partitions.

    Args:
        graph: Neighbour graph of n rows.
        one: One row of each of R pairs, `(R,)`.
        other: The other row.
    """
    return Geometry(graph, one, other, _rows(graph), _edges(graph), _pairs(graph, one, other))


def gather_evidence(geometry: Geometry, partitions: Integers, k: int) -> Evidence:
    """Add what partitions say.

    Args:
        geometry: Of n rows, E edges and R pairs.
        partitions: Clusters of the rows by M classical algorithms, `(M, n)`.
        k: Number of clusters that they were asked for.
    """
    graph, one, other = geometry.graph, geometry.one, geometry.other
    low, high = graph.low, graph.high
    together = (partitions[:, low] == partitions[:, high]).astype(np.float64)  # [M, E]
    pairs_together = (partitions[:, one] == partitions[:, other]).astype(np.float64)  # [M, R]
    edge_prior = (graph.affinities + together.mean(axis=0)) / 2
    return Evidence(
        rows=_tensor(np.column_stack([geometry.rows, *_rows_in(graph, partitions, k)])),
        edges=_tensor(np.stack([_with_votes(view, together) for view in geometry.edges])),
        pairs=_tensor(_with_votes(geometry.pairs, pairs_together)),
        low=torch.from_numpy(low),
        high=torch.from_numpy(high),
        one=torch.from_numpy(one),
        other=torch.from_numpy(other),
        partitions=torch.from_numpy(partitions),
        k=k,
        edge_prior=_probability(edge_prior),
        pair_prior=_probability(pairs_together.mean(axis=0)),
    )


def _with_votes(features: Floats, together: Floats) -> Floats:
    """Append whether partitions put both ends together, `(M, R)`, and how many of them do."""
    return np.column_stack([features, together.mean(axis=0), *together])


def _rows_in(graph: NeighbourGraph, partitions: Integers, k: int) -> list[Floats]:
    """What each partition says of a row and its neighbours, and what holds for all rows."""
    n, near = len(graph.table), graph.neighbours[:, :_JOINED]
    agreement = [(labels[near] == labels[:, None]).mean(axis=1) for labels in partitions]
    shares = [np.bincount(labels, minlength=k)[labels] * k / n for labels in partitions]
    table = [np.log(n) / 7, np.log(k), np.log(graph.table.shape[1]) / 2]
    return [*agreement, *(np.log(share) / 2 for share in shares), np.tile(table, (n, 1))]


def _rows(graph: NeighbourGraph) -> Floats:
    n, near, scale = len(graph.table), graph.neighbours[:, :_JOINED], graph.scale
    floor = scale.min() * 1e-3
    popularity = np.bincount(near.ravel(), minlength=n) / near.shape[1]
    return np.column_stack(
        [
            np.log(scale) - np.log(scale).mean(),
            np.log((graph.distances[:, 0] + floor) / scale),
            np.log((graph.distances[:, -1] + floor) / scale),
            popularity,
            popularity[near].mean(axis=1),
        ]
    )


def _edges(graph: NeighbourGraph) -> Floats:
    low, high, scale = graph.low, graph.high, graph.scale
    n, near = len(graph.table), graph.neighbours[:, :_JOINED]
    m = near.shape[1]
    log_length = np.log(graph.lengths + scale.min() * 1e-3)
    relative = log_length - np.log(scale[low]), log_length - np.log(scale[high])
    ranks = _ranks(near, low, high), _ranks(near, high, low)
    known = csr_array((np.ones(n * m), (np.repeat(np.arange(n), m), near.ravel())), shape=(n, n))
    known = (known + eye_array(n)).tocsr()
    shared = np.asarray(known[low].multiply(known[high]).sum(axis=1)) / m
    spread = _spread_along(graph, low, high), _spread_along(graph, high, low)
    steeper = np.log(scale[low] / scale[high])
    common = [log_length - log_length.mean(), shared]
    views = [
        np.column_stack(
            [
                *(relative[a], relative[b], ranks[a], ranks[b], spread[a], spread[b]),
                steeper if a == 0 else -steeper,
                *common,
            ]
        )
        for a, b in ((0, 1), (1, 0))
    ]
    return np.stack(views)


def _ranks(near: Integers, of: Integers, among: Integers) -> Floats:
    """Where row `among` stands among the neighbours of row `of`: 0 first, 1.5 not at all."""
    n, m = near.shape
    keys = (np.arange(n)[:, None] * n + near).ravel()
    order = np.argsort(keys)
    wanted = of * n + among
    places = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    found = keys[order][places] == wanted
    return np.where(found, (order[places] % m) / m, 1.5)


def _spread_along(graph: NeighbourGraph, at: Integers, towards: Integers) -> Floats:
    """Share of the spread of a row's neighbours that lies along an edge: 1 for a thin curve."""
    near = graph.table[graph.neighbours[:, :_JOINED]]
    centred = near - near.mean(axis=1, keepdims=True)  # [n, m, D]
    direction = graph.table[towards] - graph.table[at]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-12
    # an edge has the neighbours of its end: all at once take gigabytes where columns are many
    size = max(1, _CELLS // centred[0].size)
    parts = range(size, len(at), size)
    along = np.concatenate(  # [E, m]
        [
            np.matmul(centred[ends], towards_other[:, :, None])[:, :, 0]
            for ends, towards_other in zip(
                np.split(at, parts), np.split(direction, parts), strict=True
            )
        ]
    )
    total = (centred**2).sum(axis=2).mean(axis=1)
    return np.asarray(np.sqrt((along**2).mean(axis=1) / (total[at] + 1e-12)))


def _pairs(graph: NeighbourGraph, one: Integers, other: Integers) -> Floats:
    """Distance of each pair, and the widest gap on the way between them, in several units."""
    n, scale, low, high = len(graph.table), graph.scale, graph.low, graph.high
    floor = scale.min() * 1e-3
    distance = np.linalg.norm(graph.table[one] - graph.table[other], axis=1) + floor
    unit, size = np.median(scale), np.sqrt(graph.table.var(axis=0).sum()) + floor
    relative = graph.lengths / np.sqrt(scale[low] * scale[high])
    trees = graph.tree, graph.reach_tree, spanning_tree(n, low, high, relative)
    gaps = [bottlenecks(tree, one, other) for tree in trees]
    return np.column_stack(
        [
            np.log(distance / unit) / 2,
            np.log(distance / size),
            np.log(distance / np.sqrt(scale[one] * scale[other])) / 2,
            np.log((gaps[0] + floor) / unit),
            np.log((gaps[1] + floor) / unit),
            np.log(gaps[2] + 1e-3),
            np.log((gaps[0] + floor) / distance),
            np.abs(np.log(scale[one] / scale[other])),
        ]
    )


def _tensor(features: Floats) -> Tensor:
    return torch.from_numpy(features).float().clamp(-6, 6)


def _probability(prior: Floats) -> Tensor:
    """Within bounds that one partition of seven does not overstep."""
    return torch.from_numpy(np.clip(prior, 0.02, 0.98)).float()
