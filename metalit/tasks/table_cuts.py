"""Clustering tasks cut from real data with known classes."""

from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..episodes import Episode
from ..scikit import draw_seed
from ..tables.base import Labels, Range, Rows, draw_sizes, log_uniform, number_rows, rotation
from ._labelled_tables import Factories, LabelledTables
from .base import TaskDistribution
from .classes import check_data
from .tables import clustering_episode

_TRIES = 20  # cuts to draw before the data count as impossible


class TableCuts(TaskDistribution):
    """Clustering tasks from labelled data: some classes, rows and columns, or projections.

    A task picks one of the data sets and some of its classes, draws rows of them in equal or
    unequal numbers, and describes them by some of the columns, by random projections, by the
    means of groups of columns, or by leading principal components, with or without their scales.
    The classes are the clusters to be found. As with `TableTasks` the support set has no labels
    and the query is the support set with its classes; columns are standardised.

    Args:
        datasets: Factories of labelled data sets (as the data module's `dataset`), of which the
            split is taken. None for the data set of the data module, which `fit` is given.
        split: "train", "val" or "test", for `datasets`.
        n_support: Smallest and largest number of rows.
        clusters: Smallest and largest number of classes.
        columns: Smallest and largest number of columns.
        given: Share of the tasks that tell the number of clusters; 1 for `PairwiseSimilarity`,
            which must be told.

    Raises:
        ValueError: If a range is empty, or, in `fit`, if data have fewer than 2 classes or columns.
    """

    def __init__(
        self,
        datasets: Factories | None = None,
        split: str = "train",
        n_support: Range = (150, 900),
        clusters: Range = (2, 10),
        columns: Range = (2, 60),
        given: float = 1.0,
    ) -> None:
        for name, (low, high) in (
            ("n_support", n_support),
            ("clusters", clusters),
            ("columns", columns),
        ):
            if not 2 <= low <= high:
                raise ValueError(
                    f"got {name}=[{low}, {high}] but it needs two numbers of at least 2, the "
                    "smaller one first: change the one that does not fit."
                )
        self.datasets = datasets
        self.split = split
        self.n_support = n_support
        self.clusters = clusters
        self.columns = columns
        self.given = given
        self._tables = LabelledTables("TableCuts", datasets, split, _table)

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Take the data to cut, where there are no `datasets`.

        Args:
            x: Inputs of shape `(N, *features)`.
            y: Labels of shape `(N,)`; rows of label -1 are left out.

        Raises:
            ValueError: If there are no labels, or fewer than 2 classes or columns.
        """
        self._tables.fit(x, y)
        return self

    def fingerprints(self) -> list[str]:
        """Read the `datasets`, and tell them from others."""
        return self._tables.fingerprints()

    def sample(self, generator: torch.Generator) -> Episode:
        """Cut one table."""
        random = np.random.default_rng(draw_seed(generator))
        tables = self._tables.read()
        for _ in range(_TRIES):  # rows that are drawn may all be equal
            table, classes = tables[int(random.integers(len(tables)))]
            rows, clusters = _choose(
                random, classes, self.clusters, log_uniform(random, self.n_support)
            )
            cut = table[rows].astype(np.float64)
            cut = cut[:, cut.std(axis=0) > 0]
            if cut.shape[1] and len(np.unique(clusters)) > 1:
                break
        else:
            raise ValueError(
                f"{_TRIES} cuts of the data had one class, or rows that were all equal, but "
                "clusters must differ: give data with other classes or columns."
            )
        columns = min(log_uniform(random, self.columns), cut.shape[1])
        view = VIEWS[int(random.integers(len(VIEWS)))]
        told = int(clusters.max()) + 1 if random.random() < self.given else None
        return clustering_episode(view(random, cut, columns), clusters, told)


def _table(x: Tensor, y: Tensor | None) -> tuple[Rows, Labels]:
    check_data(x, y)
    table = x.flatten(1).numpy()
    classes = np.full(len(x), -1) if y is None else y.numpy()
    columns = int((table != table[:1]).any(axis=0).sum())
    if len(np.unique(classes[classes >= 0])) < 2 or columns < 2:
        raise ValueError(
            f"got {columns} columns that are not constant and "
            f"{len(np.unique(classes[classes >= 0]))} classes but tasks are cut from 2 or more of "
            "each: give labelled data."
        )
    return table[classes >= 0], classes[classes >= 0].astype(np.int64)


def _choose(
    random: np.random.Generator, classes: Labels, clusters: Range, n: int
) -> tuple[Labels, Labels]:
    """Pick classes and about n of their rows; return the rows and their clusters."""
    kinds = random.permutation(np.unique(classes))[: log_uniform(random, clusters)]
    sizes = draw_sizes(random, max(n, 8 * len(kinds)), len(kinds), least=8)
    members = [random.permutation(np.flatnonzero(classes == kind)) for kind in kinds]
    chosen = [rows[:size] for rows, size in zip(members, sizes, strict=True)]
    rows, labels = np.concatenate(chosen), number_rows(np.array([len(c) for c in chosen]))
    order = random.permutation(len(rows))
    return rows[order], labels[order]


def _columns(random: np.random.Generator, table: Rows, columns: int) -> Rows:
    return table[:, random.permutation(table.shape[1])[:columns]]


def _projections(random: np.random.Generator, table: Rows, columns: int) -> Rows:
    return np.asarray(table @ random.normal(size=(table.shape[1], columns)))


def _groups(random: np.random.Generator, table: Rows, columns: int) -> Rows:
    groups = np.array_split(np.arange(table.shape[1]), columns)
    return np.column_stack([table[:, group].mean(axis=1) for group in groups])


def _components(random: np.random.Generator, table: Rows, columns: int) -> Rows:
    """Leading components on their own scales, of which the caller's standardising leaves one."""
    left, scales, _ = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)
    scores = left[:, :columns] * scales[:columns]
    # rotated, the scales outlive standardising; as they are, all components weigh alike
    return np.asarray(scores @ rotation(random, columns) if random.random() < 0.5 else scores)


VIEWS = (_columns, _projections, _groups, _components)
