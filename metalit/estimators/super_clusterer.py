"""The super learner of clusterers of one table, in scikit-learn's way."""

import json
from importlib.resources import files
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import validate_data

from ..combinations import Consensus, Gate
from ..descriptors import DESCRIPTORS
from ..episodes import unlabelled
from ..learners import Learner, SklearnClusterer
from ..scikit import size_parameter
from ._super_learner import Named, SuperLearner

GATE = files("metalit.estimators") / "clusterers.json"
"""The gate of the default clusterers; `benchmarks/clustering_tables.py --ship` writes it."""


# scikit-learn has no types to be seen by mypy
class SuperLearnerClusterer(ClusterMixin, SuperLearner):  # type: ignore[misc]
    """Clusters a table in several ways and makes one partition of them.

    `SupervisedMetaLearner` with `metalit.combinations.Consensus` on one table. Partitions are
    weighed by validity landmarks: for the default clusterers by a gate that was meta-trained on
    synthetic tables, for others by a fixed rule. Scale the columns first, as for the clusterers
    themselves. Noise joins the cluster of its nearest row.

    Args:
        n_clusters: Number of clusters, set on every clusterer that takes one. None leaves them
            their own (in scikit-learn 8 for k-means, 2 for Ward, 1 for a mixture), and gives as
            many as the heaviest partition has.
        estimators: List of (name, clusterer); None takes `default_clusterers`.
        alignment: "select", "hungarian" or "coassociation".
        sharpness: How much the rule counts; 0 weighs all alike, but for what was learned.
        random_state: Seed of the clusterers.

    Attributes:
        labels_: Clusters of the rows of `fit`.
        n_clusters_: Number of columns of `predict_proba`.
        weights_: Weight of each clusterer, by name.
        report_: The weights and the heaviest clusterer.

    Example:
        >>> from sklearn.datasets import make_circles
        >>> x, _ = make_circles(200, factor=0.3, noise=0.03, random_state=0)
        >>> SuperLearnerClusterer(n_clusters=2, random_state=0).fit(x).predict(x[:4]).shape
        (4,)
    """

    def __init__(
        self,
        n_clusters: int | None = 8,
        estimators: Named | None = None,
        alignment: str = "select",
        sharpness: float = 2.0,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.estimators = estimators
        self.alignment = alignment
        self.sharpness = sharpness
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Cluster the rows of X `(N, D)`; y is ignored."""
        table = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if self.estimators is None and len(table) <= (self.n_clusters or 0):
            raise ValueError(
                f"n_samples={len(table)} should be more than n_clusters={self.n_clusters}: give "
                "more rows or lower n_clusters."
            )
        support = unlabelled(torch.tensor(table))
        self._learn(support, _read_gate() if self.estimators is None else None)
        outputs = self._outputs(X)
        self.labels_ = outputs.argmax(dim=1).numpy()
        self.n_clusters_ = outputs.shape[1]
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Return the most probable cluster of each row."""
        return np.asarray(self._outputs(X).argmax(dim=1).numpy())

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of the clusters, of shape `(N, n_clusters_)`."""
        return np.asarray(self._outputs(X).softmax(dim=1).numpy())

    def _combination(self, seed: int) -> Consensus:
        return Consensus(
            n_clusters=self.n_clusters,
            # kept as the user gave it, as scikit-learn asks; refused there if it is no choice
            alignment=self.alignment,  # type: ignore[arg-type]
            sharpness=self.sharpness,
        )

    def _defaults(self, rows: int) -> Named:
        return default_clusterers(rows)

    def _wrap(self, estimator: BaseEstimator, seed: int) -> Learner:
        number = self.n_clusters if size_parameter(estimator) else None
        return SklearnClusterer(estimator, n_clusters=number, noise="nearest", seed=seed)


def default_clusterers(rows: int) -> Named:
    """Clusterers for a table of so many rows: one for each notion of a cluster."""
    near = min(10, rows - 1)
    spectral = SpectralClustering(affinity="nearest_neighbors", n_neighbors=near)
    return [
        ("KMeans", KMeans(n_init=10)),
        ("Ward", AgglomerativeClustering()),
        ("average", AgglomerativeClustering(linkage="average")),
        ("single", AgglomerativeClustering(linkage="single")),
        ("GMM", GaussianMixture(n_init=5)),
        ("spectral", spectral),
        ("HDBSCAN", HDBSCAN(max(2, near), copy=True)),
    ]


def _read_gate() -> Gate:
    """The gate that was trained for the default clusterers."""
    state = json.loads(GATE.read_text())["state"]
    gate = Gate(len(state["bias"]), len(DESCRIPTORS), Consensus.n_landmarks)
    gate.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    return gate.eval()
