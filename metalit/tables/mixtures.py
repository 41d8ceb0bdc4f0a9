"""Families of mixtures in any number of dimensions."""

import numpy as np

from .base import Labels, Plan, Rows, draw_sizes, number_rows, rotation


def gaussian_mixture(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Gaussians of full, diagonal or spherical covariances of their own or one shared, or t.

    Their centres lie in a subspace of random dimension, so that columns are redundant as in real
    tables, and at least `separation` away from each other in units of the mean spread, where that
    can be had in 20 tries.
    """
    n, k, d, difficulty = plan
    sizes = draw_sizes(random, n, k)
    intrinsic = int(random.integers(1 if k < 4 else 2, d + 1)) if d > 2 else 2
    separation = random.uniform(0.8, 1.2) * (6 - 4.2 * difficulty)
    basis = rotation(random, d)[:, :intrinsic]
    centres = _spread(random, k, intrinsic, separation) @ basis.T
    form = random.choice(["full", "diagonal", "spherical", "tied", "planes"])
    spreads = np.exp(random.normal(0, random.uniform(0, 1.0), k))
    tail = random.choice([0.0, 0.0, 0.0, 3.0, 5.0])  # degrees of freedom; 0: Gaussian
    shared = _factor(random, d, "full")
    parts = []
    for size, centre, spread in zip(sizes, centres, spreads, strict=True):
        factor = shared if form == "tied" else _factor(random, d, form)
        rows = random.normal(size=(size, d))
        if tail:
            rows /= np.sqrt(random.chisquare(tail, (size, 1)) / tail)
        parts.append(centre + spread * rows @ factor.T)
    return np.concatenate(parts), number_rows(sizes)


def _spread(random: np.random.Generator, k: int, d: int, separation: float) -> Rows:
    """Draw k centres `(k, d)`, the closest two of which are `separation` apart where possible."""
    scale = separation * max(1.0, 0.75 * k ** (1 / d)) / np.sqrt(2 * d)
    centres = random.normal(size=(k, d)) * scale
    for j in range(1, k):
        for _ in range(20):
            if np.linalg.norm(centres[:j] - centres[j], axis=1).min() >= separation:
                break
            centres[j] = random.normal(size=d) * scale * 1.1
    return np.asarray(centres)


def _factor(random: np.random.Generator, d: int, form: str) -> Rows:
    """Draw a root of a covariance `(d, d)` with mean variance 1."""
    if form == "spherical":
        return np.eye(d)
    axes = np.exp(random.normal(0, random.uniform(0.2, 1.0), d))
    if form == "planes":  # flat: only some directions vary
        axes[random.permutation(d)[: d // 2]] *= 0.1
    axes /= np.sqrt(np.mean(axes**2))
    return np.diag(axes) if form == "diagonal" else rotation(random, d) * axes


def factor_mixture(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Clusters that differ in a few latent factors, seen through noisy and redundant columns.

    As in tables of measurements: latent Gaussians (4 dimensions or fewer) are mapped to all
    columns by random loadings; some columns load on nothing.
    """
    n, k, d, difficulty = plan
    latent = int(random.integers(1 if k == 2 else 2, min(4, d) + 1))
    z, y = gaussian_mixture(random, Plan(n, k, max(2, latent), difficulty))
    loadings = random.normal(size=(z.shape[1], d)) * (random.random((z.shape[1], d)) < 0.7)
    x = z / z.std(axis=0) @ loadings
    return x + random.normal(size=x.shape) * random.uniform(0.05, 0.2 + 0.8 * difficulty), y


def binary_patterns(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Columns of 0 and 1, or of counts, with a profile of rates of its own for each cluster.

    There are at least 8 columns, and 2 for each cluster, up to 60: fewer tell nothing apart.
    """
    n, k, d, difficulty = plan
    d = max(d, 8, min(2 * k, 60))
    sizes = draw_sizes(random, n, k)
    sharp = random.uniform(0.8, 1.2) * (3 - 2.2 * difficulty)
    rates = 1 / (1 + np.exp(-sharp * random.normal(size=(k, d)) + random.uniform(0, 1.5)))
    y = number_rows(sizes)
    if random.random() < 0.5:
        return (random.random((n, d)) < rates[y]).astype(np.float64), y
    return random.poisson(rates[y] * random.uniform(2, 12)).astype(np.float64), y
