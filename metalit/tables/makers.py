"""Families from the generators of scikit-learn."""

import numpy as np
from sklearn.datasets import (
    make_blobs,
    make_circles,
    make_classification,
    make_gaussian_quantiles,
    make_moons,
    make_s_curve,
    make_swiss_roll,
)

from .base import Labels, Plan, Rows, draw_sizes


def blobs(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """`make_blobs`, with one spread for all or one for each."""
    n, k, d, difficulty = plan
    spread = random.uniform(0.8, 1.2) * (0.8 + 2.2 * difficulty) * (d / 2) ** 0.25
    spreads = np.full(k, spread) if random.random() < 0.5 else spread * random.uniform(0.4, 1.6, k)
    sizes = draw_sizes(random, n, k)
    x, y = make_blobs(sizes, d, cluster_std=spreads, random_state=_seed(random))
    return x, y.astype(np.int64)


def moons(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """`make_moons`: two."""
    noise = random.uniform(0.02, 0.08 + 0.15 * plan.difficulty)
    x, y = make_moons(_two(random, plan.n), noise=noise, random_state=_seed(random))
    return x, y.astype(np.int64)


def circles(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """`make_circles`: two."""
    noise, factor = random.uniform(0.01, 0.04 + 0.08 * plan.difficulty), random.uniform(0.2, 0.7)
    x, y = make_circles(
        _two(random, plan.n), noise=noise, factor=factor, random_state=_seed(random)
    )
    return x, y.astype(np.int64)


def classification(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """`make_classification`: informative, redundant and useless columns, up to 8 classes."""
    d = max(plan.d, 3)
    informative = int(random.integers(2, min(d, 8) + 1))
    k = min(plan.k, 2**informative, 8)
    x, y = make_classification(
        plan.n,
        d,
        n_informative=informative,
        n_redundant=int(random.integers(0, d - informative + 1)),
        n_classes=k,
        n_clusters_per_class=1,
        weights=draw_sizes(random, plan.n, k) / plan.n,
        flip_y=0,
        class_sep=random.uniform(0.8, 1.2) * (2.6 - 1.8 * plan.difficulty),
        random_state=_seed(random),
    )
    return x, y.astype(np.int64)


def gaussian_quantiles(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """`make_gaussian_quantiles`: shells around each other, with a gap cut out between them."""
    k, d = min(plan.k, 3), min(plan.d, 4)
    x, y = make_gaussian_quantiles(
        n_samples=plan.n, n_features=d, n_classes=k, random_state=_seed(random)
    )
    push = random.uniform(0.8, 1.6) * (1.4 - plan.difficulty)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return x * (1 + push * y[:, None] / norm), y.astype(np.int64)


def sheets(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """`make_swiss_roll` or `make_s_curve`, cut into up to 6 pieces along the roll, gaps between."""
    k = min(plan.k, 6)
    make = make_swiss_roll if random.random() < 0.5 else make_s_curve
    noise = random.uniform(0, 0.02 + 0.05 * plan.difficulty)
    x, along = make(3 * plan.n, noise=noise, random_state=_seed(random))
    place = k * np.argsort(np.argsort(along)) / len(along)
    inside = place - np.floor(place)
    gap = random.uniform(0.5, 1) * (0.35 - 0.25 * plan.difficulty)
    rows = random.permutation(np.flatnonzero((inside > gap / 2) & (inside < 1 - gap / 2)))[: plan.n]
    x = x / x.std(axis=0) * (1 + noise * random.normal(size=x.shape))
    return x[rows], np.floor(place[rows]).astype(np.int64)


def _two(random: np.random.Generator, n: int) -> tuple[int, int]:
    sizes = draw_sizes(random, n, 2, least=20)
    return int(sizes[0]), int(sizes[1])


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(2**31))
