"""What happens to a table on its way to the user: warps, useless columns, noise, rounding."""

import numpy as np

from .base import Labels, Rows, rotation


def warp(random: np.random.Generator, x: Rows) -> Rows:
    """Bend all columns together by a small random network with a residual connection."""
    d, hidden = x.shape[1], 16
    z = _standardise(x)
    inner = np.tanh(z @ random.normal(size=(d, hidden)) / np.sqrt(d) + random.normal(size=hidden))
    return np.asarray(z + random.uniform(0.3, 1.2) * inner @ random.normal(size=(hidden, d)) / 4)


def lift(random: np.random.Generator, x: Rows, d: int) -> Rows:
    """Carry a table into d columns by a random linear or smooth map, with a little noise."""
    z = _standardise(x)
    if random.random() < 0.5:
        lifted = z @ rotation(random, max(d, z.shape[1]))[: z.shape[1], :d]
    else:
        features = np.tanh(z @ random.normal(size=(z.shape[1], 24)) * 0.7 + random.normal(size=24))
        lifted = features @ random.normal(size=(24, d)) / 5
    return np.asarray(lifted + random.normal(size=lifted.shape) * random.uniform(0, 0.05))


def skew_columns(random: np.random.Generator, x: Rows) -> Rows:
    """Give some columns another monotone scale, as measurements have: exponential, squashed."""
    z = _standardise(x)
    for j in np.flatnonzero(random.random(z.shape[1]) < 0.5):
        match int(random.integers(3)):
            case 0:
                z[:, j] = np.exp(np.clip(random.uniform(0.4, 1.0) * z[:, j], -6, 4))
            case 1:
                z[:, j] = np.sign(z[:, j]) * np.abs(z[:, j]) ** random.uniform(1.3, 2.5)
            case _:
                z[:, j] = np.tanh(random.uniform(0.7, 1.8) * z[:, j])
    return z


def round_columns(random: np.random.Generator, x: Rows) -> Rows:
    """Round some columns to a few levels, as grades and counts are."""
    z = _standardise(x)
    for j in np.flatnonzero(random.random(z.shape[1]) < 0.4):
        z[:, j] = np.round(z[:, j] * random.uniform(1, 6))
    return z


def add_columns(random: np.random.Generator, x: Rows, number: int) -> Rows:
    """Add columns that know nothing of the clusters."""
    spread = random.uniform(0.2, 1.0) * x.std(axis=0).mean()
    kind = random.choice(["normal", "uniform"])
    draw = random.normal if kind == "normal" else (lambda size: random.uniform(-1.7, 1.7, size))
    return np.column_stack([x, draw(size=(len(x), number)) * spread])


def add_noise_points(
    random: np.random.Generator, x: Rows, y: Labels, number: int
) -> tuple[Rows, Labels]:
    """Scatter points of no cluster, label -1, uniformly over the box around the table."""
    low, high = x.min(axis=0), x.max(axis=0)
    noise = random.uniform(low, high, (number, x.shape[1]))
    return np.concatenate([x, noise]), np.concatenate([y, np.full(len(noise), -1)])


def _standardise(x: Rows) -> Rows:
    deviation = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))
