"""What every family of random tables has in common."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]
Range = tuple[int, int]


class Plan(NamedTuple):
    """What a table is to be; a family follows it as far as its kind permits.

    Attributes:
        n: Rows.
        k: Clusters, 2 or more.
        d: Columns, 2 or more; families of the plane have 2 whatever is asked for.
        difficulty: 0 for clusters that lie well apart to 1 for ones that overlap.
    """

    n: int
    k: int
    d: int
    difficulty: float


Family = Callable[[np.random.Generator, Plan], tuple[Rows, Labels]]
"""Draws a table `(n, d)` with the cluster of each row, `(n,)` in `[0, k)`, -1 for noise points."""


def draw_sizes(random: np.random.Generator, n: int, k: int, least: int = 5) -> NDArray[np.int64]:
    """Cut n rows into k clusters of at least `least` rows: of equal size, or quite unequal."""
    least = min(least, n // k)
    if random.random() < 0.4:
        shares = np.full(k, 1 / k)
    else:
        shares = random.dirichlet(np.full(k, random.uniform(0.7, 5)))
    sizes = least + np.floor(shares * (n - least * k)).astype(np.int64)
    sizes[: n - int(sizes.sum())] += 1
    return np.asarray(random.permutation(sizes))


def number_rows(sizes: NDArray[np.int64]) -> Labels:
    """Labels of rows that lie cluster after cluster."""
    return np.repeat(np.arange(len(sizes)), sizes)


def rotation(random: np.random.Generator, d: int) -> Rows:
    """Draw an orthogonal matrix `(d, d)`, uniform over rotations and reflections."""
    q, r = np.linalg.qr(random.normal(size=(d, d)))
    return np.asarray(q * np.sign(np.diag(r)))


def log_uniform(random: np.random.Generator, bounds: Range) -> int:
    """Draw a whole number from a range, both ends included, its logarithm uniform."""
    low, high = bounds
    return min(high, int(np.exp(random.uniform(np.log(low), np.log(high + 1)))))


def pick(random: np.random.Generator, options: dict[Any, float]) -> Any:
    """Draw a key with the probability that it has as its value."""
    keys = list(options)
    shares = np.array([options[key] for key in keys])
    return keys[int(random.choice(len(keys), p=shares / shares.sum()))]
