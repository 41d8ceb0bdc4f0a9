"""Detection tasks cut from real data with known classes: one class or some are normal."""

from typing import Any, Self

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ..episodes import Episode, Samples
from ..scikit import draw_seed
from ..tables.base import rotation
from ._labelled_tables import Factories, LabelledTables
from .anomalies import check_shares
from .base import TaskDistribution
from .classes import check_data


class ClassOutTasks(TaskDistribution):
    """Detection tasks from labelled data: rows of some classes are normal, of others anomalies.

    A task picks one of the data sets, its normal and its anomalous classes, in 60 % of the tasks
    some of the columns, and in 25 % a random rotation of them. Half of the normal rows at most are
    the support set, of the others at most `n_query` the query. Contaminated support sets and
    tables that judge themselves are as in `AnomalyTasks`, and so is the need for
    `meta_batch_size: 1`. Columns are not standardised.

    Args:
        datasets: Factories of labelled data sets (as the data module's `dataset`), of which the
            split is taken. None for the data set of the data module, which `fit` is given.
        split: "train", "val" or "test", for `datasets`.
        rows: Largest support set.
        n_query: Largest number of normal rows to judge.
        clean: Share of tasks with a normal support set.
        itself: Share of the other tasks in which the query is the support set.

    Raises:
        ValueError: If a share or size is out of range, or, in `fit` or `sample`, if there is no
            data set with two classes of which one has 40 rows.
    """

    def __init__(
        self,
        datasets: Factories | None = None,
        split: str = "train",
        rows: int = 800,
        n_query: int = 200,
        clean: float = 0.5,
        itself: float = 0.7,
    ) -> None:
        check_shares(clean=clean, itself=itself)
        if rows < 2 or n_query < 1:
            raise ValueError(
                f"got rows={rows} and n_query={n_query} but at least 2 and 1 are needed: raise the "
                "one that is too small."
            )
        self.datasets = datasets
        self.split = split
        self.rows = rows
        self.n_query = n_query
        self.clean = clean
        self.itself = itself
        self._tables = LabelledTables("ClassOutTasks", datasets, split, _check)

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Take x `(N, *features)` and its labels `(N,)`, where there are no `datasets`."""
        self._tables.fit(x, y)
        return self

    def fingerprints(self) -> list[str]:
        """Read the `datasets`, and tell them from others."""
        return self._tables.fingerprints()

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw a data set, its classes, columns and rows."""
        random = np.random.default_rng(draw_seed(generator))
        known = self._tables.read()
        x, y = known[random.integers(len(known))]
        normal, anomalies = _classes(y, random)
        n = min(self.rows, len(normal) // 2)
        contaminated = random.random() >= self.clean
        itself = contaminated and random.random() < self.itself
        inside = min(len(anomalies) // 2, max(3, round(random.uniform(0.01, 0.4) * n)))
        inside = max(inside, int(itself)) if contaminated else 0
        rest = normal[n : n + self.n_query]
        share = random.uniform(0.02, 0.55)
        outside = max(4, round(share / (1 - share) * len(rest)))
        support = random.permutation(np.concatenate([normal[:n], anomalies[:inside]]))
        query = np.concatenate([rest, anomalies[inside : inside + outside]])
        chosen = support if itself else random.permutation(query)
        columns = _columns(x.shape[1], random)
        return Episode(
            *(
                Samples(
                    (x[part] @ columns).float(), torch.from_numpy(np.isin(part, anomalies)).long()
                )
                for part in (support, chosen)
            )
        )


def _check(x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Standardised rows and labels of the rows that have one."""
    check_data(x, y)
    sizes = torch.empty(0) if y is None else torch.bincount(y[y >= 0])
    if y is None or int((sizes > 0).sum()) < 2 or int(sizes.max()) < 40:
        raise ValueError(
            f"got classes of {[int(size) for size in sizes]} rows but one with 40 and another are "
            "needed: give labelled data."
        )
    table = x[y >= 0].flatten(1).double()
    deviation = table.std(0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    return (table - table.mean(0)) / scale, y[y >= 0]


def _classes(
    y: Tensor, random: Generator
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows of normal classes, 40 or more of them, and of others, in random order."""
    labels = y.numpy()
    classes, sizes = np.unique(labels, return_counts=True)
    first = random.choice(classes[sizes >= 40])
    others = random.permutation(classes[classes != first])
    more = int(random.integers(1, len(others))) if len(others) > 1 and random.random() < 0.4 else 0
    # one class or several is normal, and one or several of the others are anomalies
    left = others[more:]
    anomalous = left[: int(random.integers(1, len(left) + 1))]
    normal = np.flatnonzero(np.isin(labels, [first, *others[:more]]))
    return random.permutation(normal), random.permutation(
        np.flatnonzero(np.isin(labels, anomalous))
    )


def _columns(d: int, random: Generator) -> Tensor:
    """A matrix `(D, d)` that picks columns, and rotates them in some tasks."""
    some = random.permutation(d)
    if random.random() < 0.6:
        some = some[: max(2, round(float(np.exp(random.uniform(np.log(2), np.log(d + 1))))))]
    chosen = np.eye(d)[:, some]
    if random.random() < 0.25:
        chosen = chosen @ rotation(random, len(some))
    return torch.from_numpy(chosen)
