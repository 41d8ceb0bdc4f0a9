"""The clusterer that has learned from many tables, in scikit-learn's way."""

import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from ..episodes import unlabelled
from ..inner_loops import GradientDescent
from ..learners import AmortizedClusterer
from ._arguments import check_whole
from ._columns import read_table
from ._encoding import Table, TableEncoder
from ._weights import load_similarity

INNER_LR = 0.03  # step size of the unsupervised steps
WEAK = 0.7  # share of the median strength below which a row is noise
_CHUNK = 20_000  # rows that are assigned at once


# scikit-learn has no types to be seen by mypy
class MetaClusterer(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    ClusterMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Clusters a table by what was learned from thousands of other tables.

    A graph network sees the table's nearest neighbours and what seven classical algorithms make of
    it, and says which rows belong together; of their partitions, and of those that it makes itself,
    the one that agrees best with what it finds probable is chosen
    (`metalit.learners.AmortizedClusterer`). Its weights ship with the package;
    nothing is downloaded. The table may have numbers of any scale, text, categories, dates and
    missing values (`TableEncoder` has the rules). Nothing is sampled but by `random_state`.

    Of more rows than `n_context` a random subset is clustered, and the others belong where their
    nearest neighbours in the subset do: a million rows take minutes.

    Args:
        n_clusters: Number of clusters, or None to estimate it.
        most_clusters: Largest number that an estimate may have; it never has more than a fifth of
            the rows that are looked at together.
        steps: Unsupervised steps of the network on this table; 0 takes it as it was trained.
        noise: Whether rows that belong together with their neighbours much less than is usual in
            the table get the label -1.
        n_context: Largest number of rows that are looked at together.
        random_state: Seed of the subset and of the classical algorithms, an integer.

    Attributes:
        labels_: Clusters of the rows of `fit`, -1 for noise.
        n_clusters_: Number of clusters; fewer than `n_clusters`, with a warning, where there are
            not so many different rows.
        confidence_: The adjusted Rand index that the partition is expected to have with the truth,
            at most 1; NaN for a table with a handful of different rows.
        n_clusters_probabilities_: Probability of each number of clusters that was considered.
        method_: Which method the partition comes from, and
        scores_: the expected adjusted Rand index of every method.

    Example:
        >>> from sklearn.datasets import make_moons
        >>> x, _ = make_moons(200, noise=0.05, random_state=0)
        >>> MetaClusterer(n_clusters=2).fit_predict(x).shape
        (200,)
    """

    def __init__(
        self,
        n_clusters: int | None = None,
        *,
        most_clusters: int = 100,
        steps: int = 0,
        noise: bool = False,
        n_context: int = 2000,
        random_state: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.most_clusters = most_clusters
        self.steps = steps
        self.noise = noise
        self.n_context = n_context
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Cluster the rows of X `(N, D)`; y is ignored.

        Raises:
            TypeError: If an argument is no whole number.
            ValueError: If `n_clusters` is below 1 or above the number of rows, or X cannot be read.
        """
        self._check_arguments()
        frame = read_table(self, X, reset=True)
        if self.n_clusters is not None and len(frame) < self.n_clusters:
            raise ValueError(
                f"n_samples={len(frame)} should be >= n_clusters={self.n_clusters}: give more rows "
                "or lower n_clusters."
            )
        self.encoder_ = TableEncoder(random_state=0).fit(frame)
        table = self.encoder_.transform(frame)
        learner = AmortizedClusterer(
            load_similarity(),
            self.n_clusters,
            most_clusters=self.most_clusters,
            n_context=self.n_context,
            inner_loop=GradientDescent(lr=INNER_LR, steps=self.steps) if self.steps else None,
            random_state=self.random_state,
        )
        # float64 tables: as_table makes float64 of them anyway
        self.clustering_ = learner.cluster(unlabelled(torch.from_numpy(table)))
        self.n_clusters_ = self.clustering_.membership.shape[1]
        if self.n_clusters is not None and self.n_clusters_ < self.n_clusters:
            warnings.warn(
                f"n_clusters={self.n_clusters} were asked for but there are {self.n_clusters_}: "
                "look for repeated rows, or lower n_clusters.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.confidence_ = self.clustering_.confidence
        probabilities = self.clustering_.number_probabilities.tolist()
        self.n_clusters_probabilities_ = dict(
            zip(self.clustering_.numbers, probabilities, strict=True)
        )
        self.method_, self.scores_ = self.clustering_.method, self.clustering_.scores
        self.centres_ = np.stack(
            [
                self.clustering_.table[self.clustering_.labels == cluster].mean(axis=0)
                for cluster in range(self.n_clusters_)
            ]
        )
        self.labels_ = self._label(table)
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Return the cluster of each row, -1 for noise if `noise` is set."""
        return self._label(self._encode(X))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return how much each row belongs to each cluster, `(N, n_clusters_)`; rows sum to 1."""
        table = self._encode(X)
        return np.concatenate([self.clustering_.assign(part)[0] for part in _chunks(table)])

    def transform(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the distance of each row to the centre of each cluster, `(N, n_clusters_)`.

        Distances are those of the encoded table, in which every column has variance 1.
        """
        return np.asarray(pairwise_distances(self._encode(X), self.centres_))

    @property
    def _n_features_out(self) -> int:
        return int(self.n_clusters_)

    def _check_arguments(self) -> None:
        numbers = dict(most_clusters=self.most_clusters, steps=self.steps, n_context=self.n_context)
        if self.n_clusters is not None:
            numbers["n_clusters"] = self.n_clusters
        check_whole(**numbers, random_state=self.random_state)
        if self.n_clusters is not None and self.n_clusters < 1:
            raise ValueError(f"n_clusters={self.n_clusters} but 1 or more are needed: raise it.")

    def _encode(self, X: Any) -> Table:  # noqa: N803
        check_is_fitted(self)
        return self.encoder_.transform(read_table(self, X, reset=False))

    def _label(self, table: Table) -> NDArray[np.int64]:
        labels = []
        # relative, since all rows of a table with overlapping clusters are weak
        bar = WEAK * np.median(self.clustering_.strength)
        for part in _chunks(table):
            shares, strength = self.clustering_.assign(part)
            weak = (strength < bar) if self.noise else np.zeros(len(part), dtype=bool)
            labels.append(np.where(weak, -1, shares.argmax(axis=1)))
        return np.concatenate(labels).astype(np.int64)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


def _chunks(table: Table) -> Iterator[Table]:
    yield from (table[start : start + _CHUNK] for start in range(0, len(table), _CHUNK))
