"""One random table of any family, altered as real tables are."""

from collections.abc import Mapping

import numpy as np

from . import makers, mixtures, shapes
from .alterations import add_columns, add_noise_points, lift, round_columns, skew_columns, warp
from .base import Family, Labels, Plan, Rows, pick

PLANE: Mapping[Family, float] = {
    shapes.planar_shapes: 5.0,
    shapes.nested_rings: 1.0,
    shapes.spirals: 1.0,
    shapes.chains: 1.0,
    shapes.varied_density: 1.5,
    makers.moons: 0.5,
    makers.circles: 0.5,
    makers.sheets: 0.5,
}
ANY_DIMENSION: Mapping[Family, float] = {
    mixtures.gaussian_mixture: 6.0,
    mixtures.factor_mixture: 4.0,
    mixtures.binary_patterns: 1.0,
    makers.blobs: 1.0,
    makers.classification: 1.5,
    makers.gaussian_quantiles: 0.4,
}
FAMILIES: Mapping[Family, float] = {**PLANE, **ANY_DIMENSION}


def random_table(
    random: np.random.Generator, plan: Plan, families: Mapping[Family, float] = FAMILIES
) -> tuple[Rows, Labels]:
    """Draw a family by its weight, a table of it, and what happens to the table.

    Tables of the plane stay there in two cases of three; others are lifted into more columns.

    Returns:
        n rows of shape `(n, D)` in random order and their clusters, numbered from 0 without a gap,
        -1 for noise points. There may be fewer clusters than planned where a family has no more,
        and other columns.
    """
    family = pick(random, dict(families))
    noise = 0.0
    if random.random() < 0.12:
        noise = float(random.uniform(0.02, 0.05 + 0.15 * plan.difficulty))
    x, y = family(random, plan._replace(n=plan.n - round(noise * plan.n)))
    planar = x.shape[1] <= 3 and plan.d <= 3
    if x.shape[1] < plan.d and family in PLANE and random.random() < 1 / 3:
        x = lift(random, x, plan.d)
    if random.random() < 0.15:
        x = warp(random, x)
    if not planar and random.random() < 0.3:
        x = skew_columns(random, x)
    if not planar and random.random() < 0.2:
        x = round_columns(random, x)
    if x.shape[1] > 2 and random.random() < 0.15:
        x = add_columns(random, x, int(random.integers(1, x.shape[1] // 3 + 2)))
    x, y = add_noise_points(random, x, y, plan.n - len(x))
    order = random.permutation(len(x))
    x, y = x[order], y[order]
    found, numbers = np.unique(y, return_inverse=True)
    return x, numbers.astype(np.int64) - int(found[0] == -1)
