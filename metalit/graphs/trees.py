"""Minimum spanning trees, and partitions that come from removing or adding their edges."""

import heapq
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from .types import Floats, Integers


class SpanningTree(NamedTuple):
    """The n - 1 edges of a tree over n rows, the shortest first.

    Attributes:
        low: One end of each edge, `(n - 1,)`.
        high: The other end.
        lengths: Ascending, `(n - 1,)`.
        merges: The same as scikit-learn's and SciPy's linkage matrix, `(n - 1, 4)`: the two parts
            that an edge joins, its length, and the number of rows in both.
    """

    low: Integers
    high: Integers
    lengths: Floats
    merges: Floats


def spanning_tree(n: int, low: Integers, high: Integers, lengths: Floats) -> SpanningTree:
    """Find the minimum spanning tree of a connected graph of n rows.

    Args:
        n: Rows.
        low: One end of each of E edges, `(E,)`.
        high: The other end.
        lengths: Not negative, `(E,)`.
    """
    graph = coo_array((lengths + 1e-9, (low, high)), shape=(n, n))  # SciPy takes 0 for no edge
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    order = np.argsort(tree.data, kind="stable")
    ends = tree.row[order].astype(np.int64), tree.col[order].astype(np.int64)
    return SpanningTree(*ends, tree.data[order], _merges(*ends, tree.data[order]))


def _merges(low: Integers, high: Integers, lengths: Floats) -> Floats:
    n = len(lengths) + 1
    parts, size = _Parts(2 * n - 1), [1] * n
    ones, others = list[int](), list[int]()
    for node, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True), n):
        one, other = parts.find(a), parts.find(b)
        parts.parent[one] = parts.parent[other] = node
        ones.append(one)
        others.append(other)
        size.append(size[one] + size[other])
    return np.column_stack([ones, others, lengths, size[n:]])


def bottlenecks(tree: SpanningTree, one: Integers, other: Integers) -> Floats:
    """The longest edge on the path between two different rows, for R pairs, of shape `(R,)`."""
    # with the rows lined up so that every part is in one piece, it is the longest of the edges
    # that joined neighbours on the line, from the one row to the other
    place, joined = _line_up(tree.merges)
    first, last = np.minimum(place[one], place[other]), np.maximum(place[one], place[other])
    longest = [joined]  # of 1, 2, 4, ... neighbours
    while 2 ** len(longest) <= len(joined):
        shorter, half = longest[-1], 2 ** (len(longest) - 1)
        longest.append(np.maximum(shorter, np.append(shorter[half:], shorter[-half:])))
    width = np.frexp(last - first)[1] - 1  # two of 2**width edges cover the way
    table = np.stack(longest)
    return np.asarray(np.maximum(table[width, first], table[width, last - 2**width]))


def _line_up(merges: Floats) -> tuple[Integers, Floats]:
    """Places `(n,)` of the rows on a line, and lengths of what joined neighbours, `(n - 1,)`."""
    n = len(merges) + 1
    first, last, after, lengths = list(range(n)), list(range(n)), [0] * n, [0.0] * n
    ones, others = merges[:, :2].T.astype(np.int64).tolist()
    for one, other, length in zip(ones, others, merges[:, 2].tolist(), strict=True):
        left, right = last[one], first[other]
        after[left], lengths[left] = right, length
        first.append(first[one])
        last.append(last[other])
    order = [first[-1]]
    for _ in merges:
        order.append(after[order[-1]])
    return np.argsort(order), np.array(lengths)[order[:-1]]


def genie(tree: SpanningTree, numbers: Collection[int], threshold: float = 0.3) -> Integers:
    """Cluster by Genie: single linkage that keeps the sizes even (Gagolewski et al., 2016).

    Parts are joined by the shortest edge; but as long as the Gini index of their sizes is above
    the threshold, by the shortest edge of one of the smallest parts.

    Args:
        tree: Spanning tree of n rows.
        numbers: Numbers of clusters, each 1 to n.
        threshold: 0 for parts of equal size to 1 for single linkage.

    Returns:
        For each number, in the order given, clusters of shape `(len(numbers), n)`.

    References:
        Genie: A new, fast, and outlier-resistant hierarchical clustering algorithm,
        https://doi.org/10.1016/j.ins.2016.05.003
    """
    n = len(tree.lengths) + 1
    low, high = tree.low.tolist(), tree.high.tolist()
    parts, sizes = _Parts(n), _Sizes(n)
    size = parts.size
    used, first = [False] * (n - 1), 0
    smallest, place = 0, 0  # of the edges before `place` none has an end in a smallest part
    wanted, found = set(numbers), dict[int, Integers]()
    while True:
        if sizes.number in wanted:
            roots = [parts.find(row) for row in range(n)]
            found[sizes.number] = np.unique(roots, return_inverse=True)[1].astype(np.int64)
        if len(found) == len(wanted):
            return np.stack([found[number] for number in numbers])
        if sizes.gini > threshold:
            if sizes.levels[0] != smallest:
                smallest, place = sizes.levels[0], 0
            while used[place] or (
                size[parts.find(low[place])] != smallest
                and size[parts.find(high[place])] != smallest
            ):
                place += 1
            edge = place
        else:
            while used[first]:
                first += 1
            edge = first
        used[edge] = True
        one, other = parts.find(low[edge]), parts.find(high[edge])
        sizes.merge(size[one], size[other])
        parts.join(one, other)


class _Sizes:
    """Sizes of parts, of n rows in all, and the sum of their differences over all pairs."""

    def __init__(self, n: int) -> None:
        self.rows = n
        self.number = n
        self.levels = [1]  # sizes that occur, ascending
        self.counts = {1: n}
        self.differences = 0

    @property
    def gini(self) -> float:
        """0 for equal sizes to 1 for one part with nearly all rows."""
        return self.differences / ((self.number - 1) * self.rows) if self.number > 1 else 0.0

    def merge(self, one: int, other: int) -> None:
        both, smaller, larger = one + other, min(one, other), max(one, other)
        # |both - s| - |one - s| - |other - s| is twice what is shared, less s, for each part s
        shared = -2 * smaller  # the loop counts the two parts themselves
        for level in self.levels:
            if level >= both:
                break
            nearer = level if level <= smaller else smaller if level <= larger else both - level
            shared += nearer * self.counts[level]
        self.differences += 2 * shared - (self.rows - both) - (larger - smaller)
        self._count(one, -1)
        self._count(other, -1)
        self._count(both, 1)

    def _count(self, size: int, change: int) -> None:
        self.number += change
        self.counts[size] = self.counts.get(size, 0) + change
        if not self.counts[size]:
            del self.counts[size]
            self.levels.remove(size)
        elif change == 1 and self.counts[size] == 1:
            self.levels = sorted(self.counts)


def cut_dense(tree: SpanningTree, k: int, least: int) -> Integers:
    """Cut the tree at its longest edges that part at least `least` rows from at least as many.

    What an edge cuts off in smaller numbers counts as stray rows of the part, as in HDBSCAN
    (Campello et al., 2013); at the end these join the cluster that the tree leads to.

    Args:
        tree: Spanning tree of n rows.
        k: Number of clusters to cut it into; there are fewer where no such edge is left.
        least: Smallest number of rows of a part.

    Returns:
        Clusters of shape `(n,)`, numbered from 0 without a gap.

    References:
        Density-based clustering based on hierarchical density estimates,
        https://doi.org/10.1007/978-3-642-37456-2_14
    """
    n = len(tree.lengths) + 1
    ones, others, sizes_of_both = tree.merges[:, [0, 1, 3]].T.astype(np.int64).tolist()
    sizes = [1] * n + sizes_of_both

    def next_cut(part: int) -> int:
        """The highest edge in a part that divides it, -1 for none."""
        while part >= n:
            one, other = ones[part - n], others[part - n]
            if min(sizes[one], sizes[other]) >= least:
                return part
            part = one if sizes[one] >= sizes[other] else other
        return -1

    parts, cuts = {2 * n - 2}, list[tuple[float, int, int]]()

    def offer(part: int) -> None:
        cut = next_cut(part)
        if cut >= 0:
            heapq.heappush(cuts, (-tree.merges[cut - n, 2], cut, part))

    offer(2 * n - 2)
    while len(parts) < k and cuts:
        _, cut, part = heapq.heappop(cuts)
        parts.remove(part)
        for child in (ones[cut - n], others[cut - n]):
            parts.add(child)
            offer(child)
    labels = np.full(n, -1, dtype=np.int64)
    for number, part in enumerate(sorted(parts)):
        stack = [part]
        while stack:
            part = stack.pop()
            if part < n:
                labels[part] = number
            else:
                stack += ones[part - n], others[part - n]
    return _grow(tree, labels)


def _grow(tree: SpanningTree, labels: Integers) -> Integers:
    """Give rows that are -1 the label that reaches them first along short edges."""
    known = labels.tolist()
    strays = {row: [row] for row, label in enumerate(known) if label < 0}  # groups of rows
    for a, b in zip(tree.low.tolist(), tree.high.tolist(), strict=True) if strays else ():
        if known[a] < 0 and known[b] < 0:
            small, large = sorted((strays[a], strays[b]), key=len)
            large += small
            strays.update(dict.fromkeys(small, large))
        elif known[a] < 0 or known[b] < 0:
            stray, label = (a, known[b]) if known[a] < 0 else (b, known[a])
            for row in strays[stray]:
                known[row] = label
    return np.asarray(known, dtype=np.int64)


class _Parts:
    """Disjoint sets of rows."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))
        self.size = [1] * n

    def find(self, row: int) -> int:
        parent = self.parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        if self.size[one] < self.size[other]:
            one, other = other, one
        self.parent[other] = one
        self.size[one] += self.size[other]
