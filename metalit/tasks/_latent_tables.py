"""Random tables: a mixture in a few latent dimensions, seen through columns of every kind."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from ..tables.base import Rows, rotation

ACTIVATIONS: tuple[Callable[[Rows], Rows], ...] = (np.tanh, lambda x: np.maximum(x, 0), np.sin)


@dataclass(frozen=True)
class LatentMixture:
    """Components with means `(M, L)`, roots of covariances `(M, L, L)` and weights `(M,)`.

    `freedom` is that of a Student distribution: 3 has heavy tails, 1000 is normal.
    """

    means: Rows
    roots: Rows
    weights: Rows
    freedom: float

    def draw(self, n: int, random: Generator, spread: float = 1.0) -> Rows:
        """Draw n rows `(n, L)`, those of each component `spread` times as far from its mean."""
        which = random.choice(len(self.weights), n, p=self.weights)
        heavy = np.sqrt(random.chisquare(self.freedom, (n, 1)) / self.freedom)
        noise = random.normal(size=(n, self.means.shape[1])) / heavy
        return np.asarray(
            self.means[which] + spread * np.einsum("nij,nj->ni", self.roots[which], noise)
        )

    def only(self, weights: Rows) -> "LatentMixture":
        """The same components with other weights, which are normalised."""
        return LatentMixture(self.means, self.roots, weights / weights.sum(), self.freedom)


def draw_mixture(dimensions: int, components: int, random: Generator) -> LatentMixture:
    """A mixture with components of unequal size, orientation, shape, weight and tails."""
    rotations = np.stack([rotation(random, dimensions) for _ in range(components)])
    decay = np.arange(1, dimensions + 1) ** -random.uniform(0, 1.5)
    lengths = decay * np.exp(0.4 * random.normal(size=(components, 1, dimensions)))
    sizes = np.exp(0.3 * random.normal(size=(components, 1, 1)))
    weights = random.dirichlet(np.full(components, random.choice([0.7, 3, 20])))
    means = random.normal(size=(components, dimensions)) * random.uniform(0.5, 3)
    return LatentMixture(means, rotations * lengths * sizes, weights, random.choice([3, 6, 1000]))


class RandomColumns:
    """From latent rows `(n, L)` to columns `(n, D)`: linear or a random network, and noise.

    Args:
        dimensions: L.
        columns: D.
        random: Draws the map; noise is drawn with every call.
    """

    def __init__(self, dimensions: int, columns: int, random: Generator) -> None:
        self.random = random
        hidden = int(random.integers(8, 33))
        linear = random.normal(size=(dimensions, columns)) / dimensions**0.5
        if random.random() < 0.5:  # each column depends on few dimensions
            chance = max(0.15, 1.5 / dimensions)
            linear *= (random.random(linear.shape) < chance) * dimensions**0.5
        if dimensions == columns and random.random() < 0.5:
            linear = np.eye(columns)
        self.linear = linear
        self.warped = random.random() < 0.5
        self.first = random.normal(size=(dimensions, hidden)) / dimensions**0.5
        self.first *= random.uniform(0.3, 1.2)
        self.bias = random.normal(size=hidden)
        self.second = 2 * random.normal(size=(hidden, columns)) / hidden**0.5
        self.activation = ACTIVATIONS[random.integers(len(ACTIVATIONS))]
        self.noise = random.choice([0.02, 0.1, 0.3, 0.7]) * np.exp(
            0.5 * random.normal(size=columns)
        )
        self.unrelated = random.random(columns) < random.choice([0, 0, 0.3, 0.6])
        self.unrelated[random.integers(columns)] = False

    def __call__(self, latent: Rows) -> Rows:
        """Return columns for latent rows."""
        x = latent @ self.linear
        if self.warped:
            x = self.activation(latent @ self.first + self.bias) @ self.second + 0.3 * x
        x = x + self.noise * self.random.normal(size=x.shape)
        return np.asarray(np.where(self.unrelated, self.random.normal(size=x.shape), x))


def _log_normal(x: Rows, random: Generator) -> Rows:
    return np.exp(random.uniform(0.4, 1.2) * x)


def _power(x: Rows, random: Generator) -> Rows:
    return np.asarray(np.sign(x) * np.abs(x) ** random.uniform(1.3, 2.5))


def _rounded(x: Rows, random: Generator) -> Rows:
    return np.round(x * random.uniform(0.5, 3))


def _binary(x: Rows, random: Generator) -> Rows:
    return (x > random.normal()).astype(np.float64)


def _mostly_zero(x: Rows, random: Generator) -> Rows:
    return np.maximum(x - random.uniform(-0.5, 1), 0)


MARGINALS: tuple[Callable[[Rows, Generator], Rows] | None, ...] = (
    None,
    _log_normal,
    _power,
    _rounded,
    _binary,
    _mostly_zero,
)


def with_random_marginals(x: Rows, random: Generator) -> Rows:
    """Standardise columns and give them marginals as real ones have: none, one, or any of six."""
    x = (x - x.mean(0)) / (x.std(0) + 1e-9)
    how = random.choice(["as they are", "mixed", "alike"], p=[0.35, 0.45, 0.2])
    kinds = random.integers(len(MARGINALS), size=(x.shape[1],))
    if how == "alike":
        kinds[:] = kinds[0]
    if how == "as they are":
        return x
    for column, kind in enumerate(kinds):
        marginal = MARGINALS[kind]
        if marginal is not None:
            x[:, column] = marginal(x[:, column], random)
    return x
