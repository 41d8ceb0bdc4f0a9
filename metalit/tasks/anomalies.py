"""Detection tasks of endless variety: tables of any size, seven kinds of anomalies."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator

from ..episodes import Episode, Samples
from ..scikit import draw_seed
from ..tables.base import Range, Rows, log_uniform, rotation
from ._latent_tables import RandomColumns, draw_mixture, with_random_marginals
from .base import TaskDistribution


class NormalTable:
    """Where the normal rows of one task come from, and those kept back as anomalies.

    Args:
        columns: Number of columns.
        random: Draws everything.
    """

    def __init__(self, columns: int, random: Generator) -> None:
        self.random = random
        few = 1 + int(random.integers(1, max(2, min(columns, 12) + 1)))
        dimensions = min(columns, few) if random.random() < 0.6 else columns
        components = int(random.integers(1, 9))
        mixture = draw_mixture(dimensions, components, random)
        held_out = np.zeros(components)
        if components > 1:  # some components are not normal, or only one is
            one = np.arange(components) == random.integers(components)
            held_out = (one if random.random() < 0.5 else ~one) * mixture.weights
        self.mixture = mixture.only(mixture.weights - held_out)
        self.others = mixture.only(held_out) if held_out.sum() > 0 else self.mixture
        self.columns = RandomColumns(dimensions, columns, random)
        self.latent = self.mixture.draw(500, random)  # what scales of anomalies are taken from
        self.rows = self.columns(self.latent)


AnomalyKind = Callable[[NormalTable, int, float], Rows]
"""Draws n anomalies `(n, D)` of a difficulty, 0 to 1, to the normal rows of a task."""


def global_anomalies(table: NormalTable, n: int, difficulty: float) -> Rows:
    """Uniform over the latent box of normal rows, whatever the difficulty."""
    low, high = table.latent.min(0), table.latent.max(0)
    box = table.random.uniform(-0.55, 0.55, (n, len(low)))
    return table.columns((low + high) / 2 + (high - low) * box)


def local_anomalies(table: NormalTable, n: int, difficulty: float) -> Rows:
    """Around the normal components, 1.3 (difficult) to 3.8 times as far from their means."""
    return table.columns(table.mixture.draw(n, table.random, 1.3 + 2.5 * (1 - difficulty)))


def cluster_anomalies(table: NormalTable, n: int, difficulty: float) -> Rows:
    """One small cluster, 0.7 (difficult) to 3.2 scales from the mean or from a normal row."""
    random, latent = table.random, table.latent
    centre = latent[random.integers(len(latent))] if random.random() < 0.5 else latent.mean(0)
    direction = random.normal(size=latent.shape[1])
    far = latent.var(0).sum() ** 0.5 * (0.7 + 2.5 * (1 - difficulty))
    inside = table.mixture.draw(n, random) - latent.mean(0)
    offset = far * direction / np.linalg.norm(direction)
    return table.columns(centre + offset + random.uniform(0.1, 0.6) * inside)


def dependency_anomalies(table: NormalTable, n: int, difficulty: float) -> Rows:
    """Normal rows of which some columns, 30 % or more, come from another normal row each."""
    random = table.random
    rows = table.columns(table.mixture.draw(n, random))
    columns = rows.shape[1]
    swapped = random.permutation(columns)[: max(1, int(random.uniform(0.3, 1) * columns))]
    donors = random.integers(len(table.rows), size=(n, len(swapped)))
    rows[:, swapped] = table.rows[donors, swapped]
    return rows


def held_out_anomalies(table: NormalTable, n: int, difficulty: float) -> Rows:
    """Components of the mixture from which no normal row comes: another class."""
    if table.others is table.mixture:
        return other_anomalies(table, n, difficulty)
    return table.columns(table.others.draw(n, table.random))


def tail_anomalies(table: NormalTable, n: int, difficulty: float) -> Rows:
    """Normal rows pushed outward in some columns, 5 to 40 %, the same for all rows or not."""
    random = table.random
    rows = table.columns(table.mixture.draw(n, random))
    columns = rows.shape[1]
    size = max(1, int(random.uniform(0.05, 0.4) * columns))
    signs = random.choice([-1.0, 1.0], columns)
    far = table.rows.std(0) * (0.8 + 3 * (1 - difficulty))
    same, alike = random.permutation(columns)[:size], random.random() < 0.5
    for row in rows:
        pushed = same if alike else random.permutation(columns)[:size]
        row[pushed] += (signs * far)[pushed] * np.exp(0.5 * random.normal(size=size))
    return rows


def other_anomalies(table: NormalTable, n: int, difficulty: float) -> Rows:
    """Another population: shifted by up to two standard deviations, and mostly more dispersed."""
    random, latent = table.random, table.latent
    centre, size = latent.mean(0), latent.shape[1]
    shift = random.normal(size=size) * latent.std(0) * random.uniform(0.3, 2)
    spread = np.exp(random.uniform(-0.3, 1.2, size))
    rows = (latent[random.integers(len(latent), size=n)] - centre) * spread
    if random.random() < 0.3:
        rows = rows @ rotation(random, size)
    return table.columns(centre + shift + rows)


KINDS: dict[AnomalyKind, float] = {
    global_anomalies: 0.10,
    local_anomalies: 0.15,
    cluster_anomalies: 0.10,
    dependency_anomalies: 0.10,
    held_out_anomalies: 0.20,
    tail_anomalies: 0.15,
    other_anomalies: 0.20,
}
"""Each kind with its share of the tasks."""


class AnomalyTasks(TaskDistribution):
    """Detection tasks on random tables, with clean and contaminated contexts.

    `OutlierTasks` made various: rows and columns differ from task to task, so that a meta-batch is
    one episode (`meta_batch_size: 1`, `trainer.accumulate_grad_batches`). Normal rows come from a
    mixture in a few latent dimensions with full covariances and light or heavy tails, seen through
    linear maps or random networks, with noise, columns without any relation, and marginals as real
    tables have them (skewed, rounded, binary, mostly zero). Anomalies (y = 1) are of one or two of
    seven kinds: the four of ADBench (Han et al., 2022), other components of the mixture, tails of
    some columns, and a population of its own. Columns are not standardised.

    In half of the tasks the support set is normal, in the others 1 to 40 % of it are anomalies. Of
    the latter a share are tables that judge themselves: the query is the support set.

    Args:
        rows: Smallest and largest support set; sizes in between are uniform in the logarithm.
        columns: Smallest and largest number of columns, likewise.
        n_query: Rows to judge, of which 2 to 55 % are anomalies.
        clean: Share of tasks with a normal support set.
        itself: Share of the other tasks in which the query is the support set.
        difficulty: 0 for anomalies far out to 1 for close ones; None draws it for each task.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> episode = AnomalyTasks(clean=1.0).sample(torch.Generator().manual_seed(0))
        >>> bool(episode.support.y.any()), bool(episode.query.y.any())
        (False, True)

    References:
        ADBench: Anomaly Detection Benchmark, section 3.3, https://arxiv.org/abs/2206.09426
    """

    def __init__(
        self,
        rows: Range = (60, 800),
        columns: Range = (2, 60),
        n_query: int = 200,
        clean: float = 0.5,
        itself: float = 0.7,
        difficulty: float | None = None,
    ) -> None:
        if not 20 <= rows[0] <= rows[1] or not 2 <= columns[0] <= columns[1] or n_query < 20:
            raise ValueError(
                f"got rows={rows}, columns={columns} and n_query={n_query} but at least 20, 2 and "
                "20 are needed, the smaller number first: change the one that does not fit."
            )
        check_shares(clean=clean, itself=itself, difficulty=difficulty or 0.0)
        self.rows = rows
        self.columns = columns
        self.n_query = n_query
        self.clean = clean
        self.itself = itself
        self.difficulty = difficulty

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw a table, kinds of anomalies, and rows of both."""
        random = np.random.default_rng(draw_seed(generator))
        n, d = (log_uniform(random, bounds) for bounds in (self.rows, self.columns))
        contaminated = random.random() >= self.clean
        itself = contaminated and random.random() < self.itself
        n_anomalies = max(3, round(random.uniform(0.01, 0.4) * n)) if contaminated else 0
        query_anomalies = 0 if itself else max(4, round(random.uniform(0.02, 0.55) * self.n_query))
        n_query = 0 if itself else self.n_query
        table = NormalTable(d, random)
        normal = table.columns(
            table.mixture.draw(n - n_anomalies + n_query - query_anomalies, random)
        )
        difficulty = random.random() if self.difficulty is None else self.difficulty
        anomalies = _draw_anomalies(table, n_anomalies + query_anomalies, difficulty, random)
        x = with_random_marginals(np.concatenate([normal, anomalies]), random)
        labels = np.arange(len(x)) >= len(normal)
        first, split = np.arange(n - n_anomalies), np.arange(n_anomalies) + len(normal)
        support = random.permutation(np.concatenate([first, split]))
        query = np.setdiff1d(np.arange(len(x)), support)
        chosen = support if itself else random.permutation(query)
        return Episode(_samples(x, labels, support), _samples(x, labels, chosen))


def check_shares(**shares: float) -> None:
    """Raise unless each number is a share."""
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"got {name}={share} but it is a share: give a number from 0 to 1.")


def _draw_anomalies(table: NormalTable, n: int, difficulty: float, random: Generator) -> Rows:
    kinds, shares = list(KINDS), list(KINDS.values())
    places = random.choice(len(kinds), 1 + int(random.random() < 0.2), replace=False, p=shares)
    parts = np.array_split(np.arange(n), len(places))
    drawn = [
        kinds[place](table, len(part), difficulty)
        for place, part in zip(places, parts, strict=True)
    ]
    return random.permutation(np.concatenate(drawn))


def _samples(x: Rows, labels: np.ndarray[tuple[int, ...], np.dtype[np.bool]], at: Rows) -> Samples:
    places = np.asarray(at, dtype=np.int64)
    return Samples(
        torch.from_numpy(x[places].astype(np.float32)),
        torch.from_numpy(labels[places].astype(np.int64)),
    )
