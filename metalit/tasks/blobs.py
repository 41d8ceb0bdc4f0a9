"""Clustering tasks from scikit-learn's generators, with a classical clusterer as the teacher."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.datasets import make_blobs
from torch import Tensor

from ..episodes import Episode, Samples
from ..scikit import draw_seed
from .base import TaskDistribution
from .teacher import agree, teach


class BlobTasks(TaskDistribution):
    """Clustering tasks: each is a small unlabelled table, cut into support and query.

    A generator of scikit-learn (`make_blobs`, `make_moons`, `make_classification`, ...) draws
    `n_support + n_query` rows, `n_support` of which, at random, are the support set. The teacher, a
    classical clusterer, is fitted on the support set and labels both sets: the query by its
    `predict`, or, where it has none (DBSCAN), by the label of the nearest support row. Without a
    teacher the support set has no labels (-1) and the query has its true components, which suits
    losses that need no target inside and permutation-invariant ones outside.

    Cluster numbers are arbitrary, as the classes of a few-shot episode are. Rows that the teacher
    takes for noise keep the label -1: use `nn.CrossEntropyLoss(ignore_index=-1)`, since torch's
    own default is -100. Features stay on the scale of the generator. A task in which the number of
    clusters is not `way` is drawn again from the same generator. The teacher's convergence
    warnings are silenced (the clusters are counted instead) and it runs on one thread, which is
    faster on tables of this size and makes an episode equal bit by bit on any number of cores.
    With 100 + 100 rows, 10 features and `KMeans(n_clusters=3)` an episode takes about 2 ms.

    Args:
        n_support: Rows of the support set.
        n_query: Rows of the query set.
        way: Clusters in each task, and the number of outputs that a network must have.
        maker: Draws a table; takes `n_samples` and `random_state`, returns inputs of shape
            `(N, D)` and integer components of shape `(N,)`. In YAML an import path.
        maker_args: Its other arguments, such as `{centers: 3, n_features: 10}`.
        anisotropic: Stretch each table by a random linear map (normal entries of variance 1/D).
        teacher: Any scikit-learn clusterer; it is cloned for every task, and each `random_state`
            in it is set from the generator. None for no teacher.
        true_query_labels: Give the query its true components, numbered to agree best with the
            teacher's clusters on the support set, to report how well the truth is found.
        max_tries: Tables to draw before a task counts as impossible.

    Raises:
        ValueError: If a number is too small, if the maker does not take `maker_args`, or, when
            sampling, if no table of `max_tries` had `way` clusters.
        TypeError: If the teacher cannot cluster.

    Example:
        >>> from sklearn.cluster import KMeans
        >>> tasks = BlobTasks(20, 10, teacher=KMeans(n_clusters=3))
        >>> tasks.sample(torch.Generator().manual_seed(0)).query.y.shape
        torch.Size([10])
    """

    def __init__(
        self,
        n_support: int = 100,
        n_query: int = 100,
        way: int = 3,
        maker: Callable[..., tuple[NDArray[Any], NDArray[Any]]] = make_blobs,
        maker_args: dict[str, Any] | None = None,
        anisotropic: bool = False,
        teacher: BaseEstimator | None = None,
        true_query_labels: bool = False,
        max_tries: int = 20,
    ) -> None:
        if way < 2 or n_support < way or n_query < 1 or max_tries < 1:
            raise ValueError(
                f"got way={way}, n_support={n_support}, n_query={n_query}, max_tries={max_tries} "
                "but clustering needs way >= 2, n_support >= way, n_query >= 1 and max_tries >= 1: "
                "raise the one that is too small."
            )
        try:
            inspect.signature(maker).bind(n_samples=2, random_state=0, **(maker_args or {}))
        except TypeError as error:
            raise ValueError(
                f"{_name(maker)} cannot be called with n_samples, random_state and maker_args="
                f"{maker_args} ({error}): give maker_args that it takes, without those two."
            ) from error
        if teacher is not None and not callable(getattr(teacher, "fit_predict", None)):
            raise TypeError(
                f"teacher {_name(teacher)} has no fit_predict but must cluster: "
                "choose a scikit-learn clusterer such as KMeans or DBSCAN."
            )
        self.n_support = n_support
        self.n_query = n_query
        self.way = way
        self.maker = maker
        self.maker_args = maker_args
        self.anisotropic = anisotropic
        self.teacher = teacher
        self.true_query_labels = true_query_labels
        self.max_tries = max_tries

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw one table and label it; see the class for which labels support and query get."""
        seen: set[int] = set()
        for _ in range(self.max_tries):
            x, components = self._table(generator)
            support_x, query_x = x[: self.n_support], x[self.n_support :]
            truth, query_truth = np.split(components, [self.n_support])
            support_y, query_y = np.full_like(truth, -1), query_truth
            found = set()  # numbers of clusters; all must be `way`
            if self.teacher is not None:
                tables = support_x.numpy(), query_x.numpy()
                clusters, support_y, query_y = teach(self.teacher, *tables, generator)
                found.add(clusters)
                if self.true_query_labels:
                    query_y = agree(truth, support_y, query_truth)
            if self.teacher is None or self.true_query_labels:
                found |= {len(np.unique(truth)), len(np.unique(components))}
            if found == {self.way}:
                return Episode(
                    Samples(support_x, torch.from_numpy(support_y)),
                    Samples(query_x, torch.from_numpy(query_y)),
                )
            seen |= found - {self.way}
        source = "no teacher" if self.teacher is None else f"teacher {_name(self.teacher)}"
        raise ValueError(
            f"{self.max_tries} tables of {_name(self.maker)} ({source}) had "
            f"{' or '.join(map(str, sorted(seen)))} clusters but way={self.way}: set `way` to the "
            "clusters there are, or change maker_args or the teacher's settings."
        )

    def _table(self, generator: torch.Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """Draw all rows of a task, [N, D], in random order, with their true components, [N]."""
        n = self.n_support + self.n_query
        table, components = self.maker(
            n_samples=n, random_state=draw_seed(generator), **(self.maker_args or {})
        )
        rows = _check_table(_name(self.maker), n, np.asarray(table), np.asarray(components))
        order = torch.randperm(n, generator=generator)  # not every maker shuffles
        x = torch.as_tensor(rows)[order]
        if self.anisotropic:
            features = x.shape[1]
            x = x @ (torch.randn(features, features, generator=generator) / features**0.5)
        return x, np.asarray(components, dtype=np.int64)[order.numpy()]


def _check_table(
    maker: str, n: int, table: NDArray[Any], components: NDArray[Any]
) -> NDArray[np.float32]:
    """Return the table of a maker as float32, or refuse it."""
    numbers = table.dtype.kind in "biuf" and components.dtype.kind in "biuf"
    if not numbers or table.ndim != 2 or len(table) != n or components.shape != (n,):
        raise ValueError(
            f"{maker} makes rows of shape {table.shape}, dtype {table.dtype}, and components of "
            f"shape {components.shape}, dtype {components.dtype}, but numbers of shape ({n}, D) "
            f"and ({n},) are needed: choose another maker or other maker_args."
        )
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite and is reported
        rows = table.astype(np.float32)
    if not np.isfinite(rows).all():
        raise ValueError(
            f"{maker} makes rows with NaN or infinite values but all must be finite: choose "
            "another maker or other maker_args."
        )
    return rows


def _name(thing: object) -> str:
    """A function's name, or the name of an object's class."""
    return str(getattr(thing, "__name__", type(thing).__name__))
