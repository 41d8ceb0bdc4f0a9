"""Families of shapes in the plane, which no mixture of Gaussians describes."""

from collections.abc import Callable

import numpy as np

from .base import Labels, Plan, Rows, draw_sizes, number_rows, pick


def planar_shapes(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Blobs, boxes, lines, arcs, rings, waves and crosses, set down side by side without overlap.

    Each shape is moved until its points keep a gap from all others; the gap shrinks with the
    difficulty. Rings and arcs may have another shape inside.
    """
    n, k, _, difficulty = plan
    sizes = draw_sizes(random, n, k, least=8)
    palette = _palette(random)
    gap = random.uniform(0.5, 1.2) * (1.1 - 0.9 * difficulty)
    thickness = random.uniform(0.02, 0.06 + 0.14 * difficulty)
    placed: list[Rows] = []
    reach = 2.0
    for size in sizes:
        shape = pick(random, palette)
        rows = shape(random, int(size), thickness) * np.exp(random.normal(0, 0.4))
        angle = random.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        rows = rows @ turn.T
        for _ in range(40):
            moved = rows + random.uniform(-reach, reach, 2)
            if not placed or _distance(moved, np.concatenate(placed)) > gap:
                break
            reach *= 1.04
        placed.append(moved)
    return np.concatenate(placed), number_rows(sizes)


def _distance(one: Rows, other: Rows) -> float:
    """Smallest distance, a low quantile of it, between at most 60 points of two sets."""
    one, other = one[:: len(one) // 60 + 1], other[:: len(other) // 400 + 1]
    squares = ((one[:, None] - other[None]) ** 2).sum(axis=2)
    return float(np.sqrt(np.quantile(squares.min(axis=1), 0.02)))


Shape = Callable[[np.random.Generator, int, float], Rows]


def _palette(random: np.random.Generator) -> dict[Shape, float]:
    """Which shapes a table is made of: of all, or of one or two."""
    shapes: list[Shape] = [_blob, _disk, _box, _line, _arc, _ring, _wave, _cross]
    if random.random() < 0.5:
        return dict.fromkeys(shapes, 1.0)
    return dict.fromkeys([shapes[i] for i in random.permutation(len(shapes))[:2]], 1.0)


def _jitter(random: np.random.Generator, curve: Rows, thickness: float) -> Rows:
    return curve + random.normal(size=curve.shape) * thickness


def _blob(random: np.random.Generator, n: int, thickness: float) -> Rows:
    rows = random.normal(size=(n, 2)) * [1.0, np.exp(random.uniform(-1.6, 0))] * 0.5
    if random.random() < 0.1:  # heavy tails
        rows /= np.sqrt(random.chisquare(4, (n, 1)) / 4)
    return np.asarray(rows)


def _disk(random: np.random.Generator, n: int, thickness: float) -> Rows:
    angle, radius = random.uniform(0, 2 * np.pi, n), np.sqrt(random.uniform(0, 1, n))
    return np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]


def _box(random: np.random.Generator, n: int, thickness: float) -> Rows:
    return random.uniform(-1, 1, (n, 2)) * [1.0, random.uniform(0.15, 1.0)]


def _line(random: np.random.Generator, n: int, thickness: float) -> Rows:
    along = random.uniform(-1.5, 1.5, n)
    return _jitter(random, np.column_stack([along, np.zeros(n)]), thickness)


def _arc(random: np.random.Generator, n: int, thickness: float) -> Rows:
    angle = random.uniform(0, random.uniform(2.0, 4.7), n)
    return _jitter(random, np.column_stack([np.cos(angle), np.sin(angle)]), thickness)


def _ring(random: np.random.Generator, n: int, thickness: float) -> Rows:
    angle = random.uniform(0, 2 * np.pi, n)
    curve = np.column_stack([np.cos(angle), np.sin(angle) * random.uniform(0.5, 1)])
    return _jitter(random, curve * random.uniform(0.8, 2.2), thickness)


def _wave(random: np.random.Generator, n: int, thickness: float) -> Rows:
    along = random.uniform(-2, 2, n)
    curve = np.column_stack(
        [along, random.uniform(0.3, 0.9) * np.sin(random.uniform(1, 4) * along)]
    )
    return _jitter(random, curve, thickness)


def _cross(random: np.random.Generator, n: int, thickness: float) -> Rows:
    bar = np.column_stack([random.uniform(-1, 1, n), np.zeros(n)])
    upright = random.random(n) < 0.5
    return _jitter(random, np.where(upright[:, None], bar[:, ::-1], bar), thickness)


def nested_rings(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Rings around each other, up to 5, with or without a disk in the middle."""
    n, k, _, difficulty = plan
    k = min(k, 5)
    sizes = draw_sizes(random, n, k, least=10)
    step = 1.0
    noise = step * random.uniform(0.03, 0.08 + 0.16 * difficulty)
    radii = step * (np.arange(k) + random.choice([0.0, 0.6, 1.0]))
    if random.random() < 0.5:  # equal density instead of equal size
        cuts = np.round(n * np.cumsum(radii + 0.3) / np.sum(radii + 0.3)).astype(np.int64)
        sizes = np.diff(cuts, prepend=0)
    y = number_rows(sizes)
    angle = random.uniform(0, 2 * np.pi, len(y))
    rows = np.column_stack([np.cos(angle), np.sin(angle)]) * radii[y][:, None]
    if radii[0] == 0:
        inner = y == 0
        rows[inner] = random.normal(size=(int(inner.sum()), 2)) * 0.25
    return _jitter(random, rows, noise), y


def spirals(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Arms of a spiral, up to 5, evenly turned."""
    n, k, _, difficulty = plan
    k = min(k, 5)
    sizes = draw_sizes(random, n, k, least=20)
    y = number_rows(sizes)
    along = random.uniform(0.15, 1, len(y)) ** random.uniform(0.5, 1.0)
    turns = random.uniform(0.5, 3.0 / k + 0.5)
    angle = 2 * np.pi * (along * turns + y / k)
    rows = np.column_stack([np.cos(angle), np.sin(angle)]) * along[:, None] * 5
    pitch = 5 / (turns * k + 1e-9)  # how far apart neighbouring arms are
    return _jitter(random, rows, pitch * random.uniform(0.02, 0.06 + 0.12 * difficulty)), y


def chains(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Smooth random walks that are kept apart, like roads or rivers on a map."""
    n, k, _, difficulty = plan
    sizes = draw_sizes(random, n, k, least=15)
    thickness = random.uniform(0.02, 0.05 + 0.1 * difficulty)
    gap = random.uniform(0.4, 1.0) * (1.2 - 0.8 * difficulty)
    placed: list[Rows] = []
    reach = 2.0
    for size in sizes:
        heading = np.cumsum(random.normal(0, random.uniform(0.05, 0.4), 60))
        walk = np.cumsum(np.column_stack([np.cos(heading), np.sin(heading)]), axis=0) / 15
        places = random.uniform(0, 59, size)
        low = places.astype(int)
        curve = walk[low] + (places - low)[:, None] * (walk[np.minimum(low + 1, 59)] - walk[low])
        rows = _jitter(random, curve - curve.mean(axis=0), thickness)
        for _ in range(40):
            moved = rows + random.uniform(-reach, reach, 2)
            if not placed or _distance(moved, np.concatenate(placed)) > gap * 0.6:
                break
            reach *= 1.04
        placed.append(moved)
    return np.concatenate(placed), number_rows(sizes)


def varied_density(random: np.random.Generator, plan: Plan) -> tuple[Rows, Labels]:
    """Round blobs whose spreads differ up to a factor of 20 in the plane, at touching distance."""
    n, k, _, difficulty = plan
    sizes = draw_sizes(random, n, k)
    spreads = np.exp(random.uniform(0, 3, k)) / 8
    factor = random.uniform(0.9, 1.4) * (3.6 - 1.8 * difficulty)
    centres = np.zeros((k, 2))
    reach = float(np.sqrt(np.sum(spreads**2))) * factor
    for j in range(1, k):
        for _ in range(60):
            centres[j] = random.uniform(-reach, reach, 2)
            apart = np.linalg.norm(centres[:j] - centres[j], axis=1)
            if np.all(apart > factor * (spreads[:j] + spreads[j]) / 1.3):
                break
            reach *= 1.03
    y = number_rows(sizes)
    return centres[y] + random.normal(size=(len(y), 2)) * spreads[y][:, None], y
