"""Classical methods that answer the test episodes too, fitted to one support set at a time."""

from abc import ABC, abstractmethod

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.nn.functional import one_hot

from ..episodes import Samples
from ..tasks.teacher import clone_seeded_from, teach


class Reference(ABC):
    """A scikit-learn estimator, fitted to the support set of each episode anew.

    It has the form of a learner, from a support set and query inputs to query outputs, but nothing
    to meta-train, so that a metric scores both alike.

    Attributes:
        estimator: The estimator; it is cloned, never fitted itself.
        name: How a report calls it: the class of the estimator.
    """

    def __init__(self, estimator: BaseEstimator, method: str) -> None:
        if not callable(getattr(estimator, method, None)):
            raise TypeError(
                f"estimator {type(estimator).__name__} has no {method} but "
                f"{type(self).__name__} needs it: choose another estimator or reference."
            )
        self.estimator = estimator
        self.name = type(estimator).__name__

    @abstractmethod
    def __call__(self, support: Samples, query: Tensor) -> Tensor:
        """Answer for the query inputs.

        Args:
            support: Support set, x of shape `(S, *features)`.
            query: Inputs of shape `(Q, *features)`.

        Returns:
            Outputs of shape `(Q, K)`, in the form that metrics take (see `Learner`).
        """


class ClustererReference(Reference):
    """Clusters the support set and assigns the query to its clusters.

    The query is assigned by `predict`, or, where the clusterer has none (DBSCAN), by the nearest
    support row. Rows taken for noise are a cluster of their own. The support labels are not
    looked at.

    Args:
        estimator: Any scikit-learn clusterer.
        seed: Where each `random_state` in it comes from, in every episode the same.

    Raises:
        TypeError: If the estimator cannot cluster.

    Example:
        >>> from sklearn.cluster import KMeans
        >>> x = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
        >>> ClustererReference(KMeans(n_clusters=2))(Samples(x, torch.zeros(4)), x[:2]).shape
        torch.Size([2, 3])
    """

    def __init__(self, estimator: BaseEstimator, seed: int = 0) -> None:
        super().__init__(estimator, "fit_predict")
        self.seed = seed

    def __call__(self, support: Samples, query: Tensor) -> Tensor:
        """Return one-hot rows of shape `(Q, clusters + 1)`; the first column is noise."""
        generator = torch.Generator().manual_seed(self.seed)
        tables = _table(support.x).numpy(), _table(query).numpy()
        clusters, _, labels = teach(self.estimator, *tables, generator)
        return one_hot(torch.from_numpy(labels) + 1, clusters + 1).float()


class DetectorReference(Reference):
    """Scores how anomalous the query is by a detector that has seen the support inputs.

    Scikit-learn's `score_samples` is higher for what is normal; it is negated. Outlier detectors
    have it, and so do `GaussianMixture` and `KernelDensity`.

    Args:
        estimator: Any estimator with `score_samples`, such as `IsolationForest`, or
            `LocalOutlierFactor(novelty=True)`.
        seed: Where each `random_state` in it comes from, in every episode the same.

    Raises:
        TypeError: If the estimator has no `score_samples`.

    Example:
        >>> from sklearn.svm import OneClassSVM
        >>> x = torch.randn(20, 3)
        >>> DetectorReference(OneClassSVM())(Samples(x, torch.zeros(20)), x[:5]).shape
        torch.Size([5, 1])
    """

    def __init__(self, estimator: BaseEstimator, seed: int = 0) -> None:
        super().__init__(estimator, "score_samples")
        self.seed = seed

    def __call__(self, support: Samples, query: Tensor) -> Tensor:
        """Return anomaly scores of shape `(Q, 1)`."""
        detector = _seeded(self.estimator, self.seed).fit(_table(support.x).numpy())
        scores = -detector.score_samples(_table(query).numpy())
        return torch.from_numpy(scores).float()[:, None]


class RegressorReference(Reference):
    """Predicts the query targets by a regressor fitted to the support set.

    Args:
        estimator: Any scikit-learn regressor that takes as many targets as the tasks have.
        seed: Where each `random_state` in it comes from, in every episode the same.

    Raises:
        TypeError: If the estimator has no `predict`.

    Example:
        >>> from sklearn.linear_model import Ridge
        >>> x, y = torch.randn(10, 2), torch.randn(10, 1)
        >>> RegressorReference(Ridge())(Samples(x, y), x[:4]).shape
        torch.Size([4, 1])
    """

    def __init__(self, estimator: BaseEstimator, seed: int = 0) -> None:
        super().__init__(estimator, "predict")
        self.seed = seed

    def __call__(self, support: Samples, query: Tensor) -> Tensor:
        """Return predictions of shape `(Q, d)`, d as in the support targets."""
        targets = support.y.cpu()
        # one target as a vector: some regressors warn about a column
        y = targets[:, 0] if targets.shape[1] == 1 else targets
        regressor = _seeded(self.estimator, self.seed).fit(_table(support.x).numpy(), y.numpy())
        predictions = torch.from_numpy(regressor.predict(_table(query).numpy()))
        return predictions.float().reshape(len(query), targets.shape[1])


def _table(x: Tensor) -> Tensor:
    """Flatten inputs to rows, on the CPU."""
    return x.detach().cpu().flatten(1)


def _seeded(estimator: BaseEstimator, seed: int) -> BaseEstimator:
    return clone_seeded_from(torch.Generator().manual_seed(seed), estimator)
