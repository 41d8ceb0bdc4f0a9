"""The open clustering tables of the benchmark data, and synthetic tables to meta-train on."""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_circles, make_classification, make_moons
from sklearn.metrics import adjusted_rand_score

ROWS = 2000
Array = NDArray[Any]


@dataclass(frozen=True)
class Table:
    """A table with its reference labellings, of which the first counts; -1 is not scored."""

    name: str
    battery: str
    family: str
    x: Array
    truths: list[Array]

    @property
    def k(self) -> int:
        return len(np.unique(self.truths[0][self.truths[0] >= 0]))

    def score(self, labels: Array) -> tuple[float, float]:
        """ARI with the first labelling, and with the one that fits best."""
        scores = [adjusted_rand_score(y[y >= 0], labels[y >= 0]) for y in self.truths]
        return scores[0], max(scores)


def family_of(path: str) -> str:
    """Battery and name up to its first digit that follows a letter, without _noisy and _outliers.

    a1 to a3 are one family, and so are s1-s4, 2d-4c-no4 and the other 2d-*, cure-t0-2000n-2D and
    the other cure-t*, dense-disk-*, disk-*, sizes*, square*, zelnik*, birch*, ring and ring_noisy.
    """
    battery, name = path.removesuffix(".npz").rsplit("/", 1)
    name = re.sub("_(noisy|outliers)$", "", name)
    return f"{battery}/{re.match(r'[0-9]*[^0-9]+', name).group().rstrip('-_')}"


def read_tables(folder: Path) -> list[Table]:
    """Read all tables, standardised, at most `ROWS` rows of each."""
    tables = []
    for entry in json.loads((folder / "index.json").read_text()):
        path = entry["path"]
        with np.load(folder / path) as file:
            x = file["X"].astype(np.float64)
            truths = [file[name].astype(np.int64) for name in entry["labels"]]
        if path.startswith("gagolews"):
            truths = [np.where(y == 0, -1, y) for y in truths]
        if len(x) > ROWS:
            random = np.random.default_rng(zlib.crc32(path.encode()))
            rows = random.choice(len(x), ROWS, replace=False)
            x, truths = x[rows], [y[rows] for y in truths]
        battery, name = path.removesuffix(".npz").rsplit("/", 1)
        tables.append(Table(name, battery, family_of(path), standardise(x), truths))
    return tables


def standardise(x: Array) -> Array:
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def synthetic_table(number: int) -> Table:
    """Draw a small table: of scikit-learn's generators or a random mixture of shapes."""
    random = np.random.default_rng([7, number])
    n, seed = int(random.integers(150, 1000)), int(random.integers(2**31))
    kind = random.choice(["moons", "circles", "classification", *["shapes"] * 9])
    match kind:
        case "moons":
            x, y = make_moons(n, noise=random.uniform(0.02, 0.25), random_state=seed)
        case "circles":
            noise, factor = random.uniform(0.01, 0.12), random.uniform(0.2, 0.7)
            x, y = make_circles(n, noise=noise, factor=factor, random_state=seed)
        case "classification":
            k, d = int(random.integers(2, 6)), int(random.integers(4, 20))
            x, y = make_classification(
                n,
                d,
                n_informative=4,
                n_redundant=int(random.integers(0, d - 3)),
                n_classes=k,
                n_clusters_per_class=1,
                class_sep=random.uniform(0.5, 2.5),
                random_state=seed,
            )
        case _:
            x, y = _mixture(random, n)
    return Table(f"{kind}-{number}", "synthetic", str(number), standardise(x), [y])


def _mixture(random: np.random.Generator, n: int) -> tuple[Array, Array]:
    k = int(random.choice([2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 12, 15, 20]))
    d = 2 if random.random() < 0.7 else int(random.integers(3, 20))
    shares = np.full(k, 1 / k) if random.random() < 0.5 else random.dirichlet(np.full(k, 3.0))
    sizes = np.maximum(8, (shares * max(n, 25 * k)).astype(int))
    spread = random.uniform(1.5, 4) * np.sqrt(k) / (1 if d == 2 else 2)
    parts = [_shape(random, size, d) + random.uniform(-1, 1, d) * spread for size in sizes]
    x, y = np.concatenate(parts), np.repeat(np.arange(k), sizes)
    if random.random() < 0.2:  # noise, not scored
        noise = random.uniform(x.min(axis=0), x.max(axis=0), (int(0.08 * len(x)), d))
        x, y = np.concatenate([x, noise]), np.concatenate([y, np.full(len(noise), -1)])
    return x, y


def _shape(random: np.random.Generator, n: int, d: int) -> Array:
    """A cluster around the origin: a Gaussian, or in the plane a box, a line, an arc or a ring."""
    kind = random.choice(["gaussian", "gaussian", "box", "line", "arc", "ring"])
    along = random.uniform(0, 1, n)
    if d > 2 or kind == "gaussian":
        stretch = random.normal(size=(d, d)) / np.sqrt(d) if random.random() < 0.6 else np.eye(d)
        x = random.normal(size=(n, d)) @ stretch
    elif kind == "box":
        x = random.uniform(-1, 1, (n, 2)) * random.uniform(0.3, 1.5, 2)
    else:
        length = {"line": 0.0, "ring": 2 * np.pi, "arc": random.uniform(2.0, 4.5)}[kind]
        angle = random.uniform(0, 2 * np.pi) + along * length
        radius = 3 * along - 1.5 if kind == "line" else np.full(n, random.uniform(1, 2.5))
        x = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
        x += random.normal(size=x.shape) * random.uniform(0.03, 0.2)
    return x * np.exp(0.4 * random.normal())
