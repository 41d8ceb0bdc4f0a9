"""Clustering tasks of endless variety: random tables whose clusters are known."""

from collections.abc import Sequence

import numpy as np
import torch

from ..episodes import Episode, Samples, unlabelled
from ..scikit import draw_seed
from ..tables import FAMILIES, Family, Plan, random_table
from ..tables.base import Labels, Range, Rows, log_uniform
from .base import TaskDistribution


class TableTasks(TaskDistribution):
    """Clustering tasks: each is a random table of another family, size and difficulty.

    Mixtures of Gaussians (full covariances, heavy tails, unequal sizes), of latent factors and of
    rates; shapes in the plane, rings, spirals, chains, blobs of different density; scikit-learn's
    generators. Tables are warped by random networks, carried into more columns, get noise points
    and useless columns, and have their columns skewed and rounded, as `metalit.tables` says.
    Numbers of rows, columns and clusters are drawn log-uniform from their ranges, the difficulty
    uniformly. Columns are standardised.

    The support set has no labels, only, in the share `given` of the tasks, the number of clusters
    (see `Samples`). The query is the support set itself with its true clusters, -1 for noise
    points: clustering answers for the rows it learned from. With `n_query` it is other rows of the
    same table. Where ranges have more than one number, shapes differ from task to task: use
    meta_batch_size=1 and accumulate gradients.

    Args:
        n_support: Smallest and largest number of rows; at least 20 for each cluster there is.
        n_query: Rows of a query of its own, or None for the support set.
        clusters: Smallest and largest number of clusters.
        columns: Smallest and largest number of columns.
        planar: Share of the tasks that have 2 columns, whatever `columns` says.
        difficulty: Smallest and largest difficulty, 0 (far apart) to 1 (overlapping).
        given: Share of the tasks that tell the number of clusters; 1 for `PairwiseSimilarity`,
            which must be told.
        families: Functions that draw tables (see `metalit.tables.Family`), with equal weights; in
            YAML their import paths. None for all, by the weights of `metalit.tables.FAMILIES`.

    Raises:
        ValueError: If a range is empty or out of bounds.

    Example:
        >>> tasks = TableTasks(n_support=(60, 80), clusters=(2, 3))
        >>> episode = tasks.sample(torch.Generator().manual_seed(0))
        >>> len(episode.query.x) == len(episode.support.x)
        True
    """

    def __init__(
        self,
        n_support: Range = (150, 900),
        n_query: int | None = None,
        clusters: Range = (2, 30),
        columns: Range = (2, 60),
        planar: float = 0.5,
        difficulty: tuple[float, float] = (0.0, 1.0),
        given: float = 1.0,
        families: Sequence[Family] | None = None,
    ) -> None:
        for name, (low, high), least in (
            ("n_support", n_support, 10),
            ("clusters", clusters, 2),
            ("columns", columns, 2),
        ):
            if not least <= low <= high:
                raise ValueError(
                    f"got {name}=[{low}, {high}] but it needs two numbers of at least {least}, the "
                    "smaller one first: change the one that does not fit."
                )
        shares = {"planar": planar, "given": given, "difficulty": difficulty[0]}
        if not all(0 <= share <= 1 for share in (*shares.values(), difficulty[1])):
            raise ValueError(
                f"got planar={planar}, given={given}, difficulty={difficulty} but they must lie in "
                "[0, 1]: change the one that does not."
            )
        if (n_query is not None and n_query < 1) or (families is not None and not families):
            raise ValueError(
                f"got n_query={n_query}, families={families} but at least one row and one family "
                "are needed: leave them out, or give one."
            )
        self.n_support = n_support
        self.n_query = n_query
        self.clusters = clusters
        self.columns = columns
        self.planar = planar
        self.difficulty = difficulty
        self.given = given
        self.families = families

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw one table."""
        random = np.random.default_rng(draw_seed(generator))
        k = log_uniform(random, self.clusters)
        columns = 2 if random.random() < self.planar else log_uniform(random, self.columns)
        rows = max(log_uniform(random, self.n_support), 20 * k)
        difficulty = float(random.uniform(*self.difficulty))
        families = FAMILIES if self.families is None else dict.fromkeys(self.families, 1.0)
        plan = Plan(rows + (self.n_query or 0), k, columns, difficulty)
        table, clusters = random_table(random, plan, families)
        told = int(clusters.max()) + 1 if random.random() < self.given else None
        return clustering_episode(table, clusters, told, self.n_query)


def clustering_episode(
    table: Rows, clusters: Labels, n_clusters: int | None, n_query: int | None = None
) -> Episode:
    """Make a task of a table, standardised by its support set.

    Args:
        table: Rows of shape `(N, D)`.
        clusters: Clusters of shape `(N,)`, -1 for noise points.
        n_clusters: What the support set tells of their number.
        n_query: How many of the last rows are the query; None for the support set as query.
    """
    cut = len(table) - (n_query or 0)
    deviation = table[:cut].std(axis=0)
    table = (table - table[:cut].mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1.0)
    x, y = torch.from_numpy(table).float(), torch.from_numpy(clusters)
    query = Samples(x, y) if n_query is None else Samples(x[cut:], y[cut:])
    return Episode(unlabelled(x[:cut], n_clusters), query)
