"""The unsupervised meta-learner of one table, in scikit-learn's way."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin, clone
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.utils.validation import (
    _check_feature_names_in,
    check_is_fitted,
    check_random_state,
    validate_data,
)

from ..episodes import Samples
from ..learners import SklearnClassifier
from ..learners.unsupervised import UnsupervisedMetaLearner, answer
from ..pseudo_labels import CannotLink, KnownLabels, MustLink, Pairs, Rule
from ..scikit import one_thread


# scikit-learn has no types to be seen by mypy
class PseudoLabelClusterer(ClusterMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Clusters rows, trains a classifier on the clusters and moves the clusters by it.

    `UnsupervisedMetaLearner` on one table, see there for what the parameters do. Scale the columns
    first, as for the clusterer itself.

    Args:
        n_clusters: Number of clusters; None chooses it by `selection`.
        estimator: Classifier that is trained on the clusters; None takes a quadratic discriminant
            with a little regularisation.
        clusterer: Makes the first partition; None takes k-means.
        reducer: Transformer in front of the clusterer; the classifier sees the columns themselves.
        rounds: Largest number of relabellings.
        selection: "silhouette", "gap", "bic" or "stability".
        max_clusters: Largest number to choose.
        keep: What the kept round is best in: "stability", "validity", or "labels", those of y.
        must_link: Pairs of rows of one cluster.
        cannot_link: Pairs of rows of different clusters.
        use_labels: Whether rows of y that are not -1 keep their labels. Otherwise y is ignored,
            but for `keep="labels"`.
        covariance: "full", "shared" or "spherical".
        folds: Folds of the cross-fitting.
        random_state: Seed of everything.

    Attributes:
        labels_: Clusters of the rows of `fit`, -1 for noise; they obey the rules, and differ from
            `predict` of these rows where the classifier, once fitted to them, disagrees.
        n_clusters_: Number of clusters.
        report_: Rounds with their scores, what was kept and why; the curve of the number.

    Example:
        >>> from sklearn.datasets import make_blobs
        >>> x, _ = make_blobs(60, centers=[[0, 0], [9, 9]], random_state=0)
        >>> PseudoLabelClusterer(random_state=0).fit(x).n_clusters_
        2
    """

    def __init__(
        self,
        n_clusters: int | None = None,
        estimator: BaseEstimator | None = None,
        clusterer: BaseEstimator | None = None,
        reducer: BaseEstimator | None = None,
        rounds: int = 10,
        selection: str = "silhouette",
        max_clusters: int = 10,
        keep: str = "stability",
        must_link: Pairs | None = None,
        cannot_link: Pairs | None = None,
        use_labels: bool = False,
        covariance: str = "full",
        folds: int = 5,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.estimator = estimator
        self.clusterer = clusterer
        self.reducer = reducer
        self.rounds = rounds
        self.selection = selection
        self.max_clusters = max_clusters
        self.keep = keep
        self.must_link = must_link
        self.cannot_link = cannot_link
        self.use_labels = use_labels
        self.covariance = covariance
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Cluster the rows of X `(N, D)`.

        Args:
            X: The table.
            y: Ignored, unless `use_labels` or `keep="labels"` asks for it: integers in
                `[0, n_clusters)`, -1 for "no label".
        """
        table = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        labels = np.full(len(table), -1)
        if y is not None and (self.use_labels or self.keep == "labels"):
            labels = np.asarray(y)
            if labels.shape != (len(table),) or not np.issubdtype(labels.dtype, np.integer):
                raise ValueError(
                    f"y has shape {labels.shape} and dtype {labels.dtype} but one integer a row is "
                    f"needed, {len(table)} of them, -1 for no label: number the classes from 0."
                )
        support = Samples(
            torch.tensor(table), torch.tensor(labels)
        )  # copies: rows may be read-only
        learner = self._learner()
        with torch.no_grad(), one_thread():
            clustering = learner.cluster(support)
        self.labels_ = clustering.labels.numpy()
        self.n_clusters_ = clustering.clusters
        self.report_ = clustering.report
        self._clustering = clustering
        return self

    def fit_predict(self, X: Any, y: Any = None) -> NDArray[np.int64]:  # noqa: N803
        """Cluster the rows of X; return `labels_`. See `fit`."""
        # that of ClusterMixin does not pass y on
        return np.asarray(self.fit(X, y).labels_)

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Return the most probable cluster of each row."""
        return np.asarray(self.transform(X).argmax(axis=1))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of the clusters, of shape `(N, n_clusters_)`."""
        return np.asarray(np.exp(self.transform(X)))

    def transform(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the log-probabilities of the clusters, of shape `(N, n_clusters_)`.

        Not distances, as k-means returns: they hold what the classifier learned too, and one
        scale fits clusters of any shape.
        """
        check_is_fitted(self)
        table = validate_data(self, X, reset=False, dtype=np.float64)
        with torch.no_grad(), one_thread():
            outputs = answer(
                *(self._clustering, self._clustering.temperature, self.n_clusters_),
                torch.tensor(table),
            )
        return np.asarray(outputs.numpy())

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns of `transform`: pseudolabelclusterer0 and so on."""
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        name = type(self).__name__.lower()
        return np.asarray([f"{name}{k}" for k in range(self.n_clusters_)], dtype=object)

    def _learner(self) -> UnsupervisedMetaLearner:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        estimator = self.estimator
        if estimator is None:
            estimator = QuadraticDiscriminantAnalysis(reg_param=0.01)
        must, cannot = (() if p is None else p for p in (self.must_link, self.cannot_link))
        rules: list[Rule] = [MustLink(must), CannotLink(cannot)]
        rules += [KnownLabels()] if self.use_labels else []
        return UnsupervisedMetaLearner(
            SklearnClassifier(clone(estimator), seed=seed),
            clusterer=self.clusterer,
            n_clusters=self.n_clusters,
            reducer=self.reducer,
            rounds=self.rounds,
            # choices are kept as the user gave them, as scikit-learn asks, and refused there
            selection=self.selection,  # type: ignore[arg-type]
            max_clusters=self.max_clusters,
            keep=self.keep,  # type: ignore[arg-type]
            rules=rules,
            covariance=self.covariance,  # type: ignore[arg-type]
            folds=self.folds,
            seed=seed,
        ).eval()
