"""Scikit-learn's classifiers, regressors, clusterers and detectors as learners of one task."""

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.pipeline import make_pipeline
from torch import Tensor
from torch.nn.functional import one_hot

from ..episodes import Samples
from ..scikit import (
    as_outputs,
    as_table,
    clone_seeded_from,
    fit_clusterer,
    label_of_nearest,
    log_probabilities,
    one_thread,
    size_parameter,
)
from ._checks import check_labelled
from .base import Learner, Predictor

KINDS = {"classifier": is_classifier, "regressor": is_regressor}


class SklearnLearner(Learner):
    """An estimator of scikit-learn's kind, cloned and fitted to the support set of every task.

    It has no parameters: nothing in it is meta-trained. Inputs are flattened to rows.

    Attributes:
        estimator: The estimator; it is cloned, never fitted itself.
        preprocessing: Transformer in front of it, or None.
        seed: Where each `random_state` in them comes from, in every task the same.
        needs: Method that the estimator must have.
        refuses: Kind of estimator that would be a mistake: "classifier" or "regressor".
    """

    needs: ClassVar[str]
    refuses: ClassVar[str | None] = None

    def __init__(
        self,
        estimator: BaseEstimator,
        preprocessing: BaseEstimator | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not callable(getattr(estimator, self.needs, None)):
            raise TypeError(
                f"estimator {type(estimator).__name__} has no {self.needs} but "
                f"{type(self).__name__} needs it: choose another estimator or learner."
            )
        tagged = isinstance(estimator, BaseEstimator)  # others do not say what they are
        if self.refuses is not None and tagged and KINDS[self.refuses](estimator):
            raise TypeError(
                f"estimator {type(estimator).__name__} is a {self.refuses}, which "
                f"{type(self).__name__} does not take: choose another estimator or learner."
            )
        self.estimator = estimator
        self.preprocessing = preprocessing
        self.seed = seed

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Fit the estimator to the support set, then answer for the query inputs."""
        return self.learn(support)(query)

    @abstractmethod
    def learn(self, support: Samples) -> Predictor:
        """Fit a clone of the estimator to the support set."""

    @property
    def name(self) -> str:
        """The class of the estimator."""
        return type(self.estimator).__name__

    def generator(self) -> torch.Generator:
        """Return the generator of the random states of one task."""
        return torch.Generator().manual_seed(self.seed)

    def _clone(self) -> BaseEstimator:
        if self.preprocessing is None:
            return clone_seeded_from(self.generator(), self.estimator)
        return clone_seeded_from(
            self.generator(), make_pipeline(self.preprocessing, self.estimator)
        )


class SklearnClassifier(SklearnLearner):
    """A classifier of scikit-learn's kind: a tree, a forest, an SVM, nearest neighbours.

    Outputs are log-probabilities, not below log 1e-7: of `predict_proba`, or, where there is none,
    the softmax of `decision_function`, or else of the predicted class. Rows labelled -1 are left
    out.

    Args:
        estimator: Any scikit-learn classifier.
        preprocessing: Transformer in front of it, such as `StandardScaler`.
        seed: Where each `random_state` in them comes from, in every task the same.

    Raises:
        TypeError: If the estimator has no `predict`, or is a regressor.

    Example:
        >>> from sklearn.tree import DecisionTreeClassifier
        >>> support = Samples(torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, 2]))
        >>> SklearnClassifier(DecisionTreeClassifier())(support, torch.randn(4, 2)).shape
        torch.Size([4, 3])
    """

    needs = "predict"
    refuses = "regressor"

    def learn(self, support: Samples) -> Predictor:
        """Fit a clone of the classifier to the labelled rows."""
        labelled = (support.y >= 0).cpu()
        y = support.y.cpu()[labelled]
        way = int(y.max()) + 1
        if bool((y == y[0]).all()):  # which many classifiers refuse
            return partial(_constant, int(y[0]), way)
        with one_thread():
            classifier = self._clone().fit(as_table(support.x)[labelled.numpy()], y.numpy())
        return partial(_classify, classifier, way)

    def check(self, support: Samples) -> None:
        """Refuse a support set without a label, and targets."""
        if support.y.is_floating_point():
            raise ValueError(
                f"{self.name} is a classifier but the episode has float targets: take a "
                "SklearnRegressor."
            )
        check_labelled(self.name, support)


class SklearnRegressor(SklearnLearner):
    """A regressor of scikit-learn's kind.

    Args:
        estimator: Any scikit-learn regressor that takes as many targets as the tasks have.
        preprocessing: Transformer in front of it, such as `StandardScaler`.
        seed: Where each `random_state` in them comes from, in every task the same.

    Raises:
        TypeError: If the estimator has no `predict`, or is a classifier.

    Example:
        >>> from sklearn.linear_model import Ridge
        >>> x, y = torch.randn(10, 2), torch.randn(10, 1)
        >>> SklearnRegressor(Ridge())(Samples(x, y), x[:4]).shape
        torch.Size([4, 1])
    """

    needs = "predict"
    refuses = "classifier"

    def learn(self, support: Samples) -> Predictor:
        """Fit a clone of the regressor to the targets."""
        y = support.y.detach().cpu().numpy()
        # one target as a vector: some regressors warn about a column
        with one_thread():
            fitted = self._clone().fit(as_table(support.x), y[:, 0] if y.shape[1] == 1 else y)
        return partial(_regress, fitted, y.shape[1])

    def check(self, support: Samples) -> None:
        """Refuse class labels."""
        if not support.y.is_floating_point():
            raise ValueError(
                f"{self.name} is a regressor but the episode has class labels: take a "
                "SklearnClassifier."
            )


class SklearnClusterer(SklearnLearner):
    """A clusterer of scikit-learn's kind; it never looks at the support labels.

    The query is assigned by `predict`, or, where the clusterer has none (DBSCAN), by the nearest
    support row. Outputs are the logarithms of one-hot rows, not below log 1e-7, with one column a
    cluster found in the support set and, where some of its rows are taken for noise, a last column
    for noise.

    Args:
        estimator: Any scikit-learn clusterer.
        preprocessing: Transformer in front of it, such as `StandardScaler`.
        n_clusters: Number of clusters, set on the estimator as its `n_clusters` or
            `n_components`; outputs then have at least so many columns. None leaves it as it is.
        noise: "column" gives rows that are taken for noise a column of their own, "nearest" the
            cluster of the nearest row that has one.
        seed: Where each `random_state` in them comes from, in every task the same.

    Raises:
        TypeError: If the estimator cannot cluster.
        ValueError: If `n_clusters` is smaller than 1 or the estimator does not take a number.

    Example:
        >>> from sklearn.cluster import KMeans
        >>> x = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
        >>> SklearnClusterer(KMeans(), n_clusters=2)(Samples(x, torch.zeros(4)), x[:3]).shape
        torch.Size([3, 2])
    """

    needs = "fit_predict"

    def __init__(
        self,
        estimator: BaseEstimator,
        preprocessing: BaseEstimator | None = None,
        n_clusters: int | None = None,
        noise: Literal["column", "nearest"] = "column",
        seed: int = 0,
    ) -> None:
        super().__init__(estimator, preprocessing, seed)
        if noise not in ("column", "nearest"):
            raise ValueError(f"noise={noise!r} is unknown: choose 'column' or 'nearest'.")
        if n_clusters is not None and n_clusters < 1:
            raise ValueError(f"n_clusters={n_clusters} must be at least 1, or None.")
        if n_clusters is not None and size_parameter(estimator) is None:
            raise ValueError(
                f"n_clusters={n_clusters} is given but {type(estimator).__name__} finds the number "
                "by itself: leave n_clusters out."
            )
        self.n_clusters = n_clusters
        self.noise = noise

    def learn(self, support: Samples) -> Predictor:
        """Cluster the support rows with a clone of the clusterer."""
        table, transformer = as_table(support.x), None
        if self.preprocessing is not None:
            transformer = clone_seeded_from(self.generator(), self.preprocessing).fit(table)
            table = transformer.transform(table)
        labels, assign = fit_clusterer(self.estimator, table, self.generator(), self.n_clusters)
        inside = labels >= 0
        if self.noise == "nearest" and inside.any() and not inside.all():
            labels = labels[inside]
            assign = partial(label_of_nearest, table[inside], labels)
        clusters = max(int(labels.max()) + 1, self.n_clusters or 0)
        # a clusterer with `predict` may call -1 what has no support row: column 0, as a guess
        noise = clusters if bool((labels < 0).any()) else 0
        width = max(clusters + (noise > 0), 1)
        return partial(_cluster, transformer, assign, noise, width)


class SklearnDetector(SklearnLearner):
    """A detector of scikit-learn's kind, fitted to the support inputs; labels are not looked at.

    Scikit-learn's `score_samples` is higher for what is normal; it is negated. Outlier detectors
    have it, and so do `GaussianMixture` and `KernelDensity`.

    Args:
        estimator: Any estimator with `score_samples`, such as `IsolationForest`, or
            `LocalOutlierFactor(novelty=True)`.
        preprocessing: Transformer in front of it, such as `StandardScaler`.
        seed: Where each `random_state` in them comes from, in every task the same.

    Raises:
        TypeError: If the estimator has no `score_samples`.

    Example:
        >>> from sklearn.svm import OneClassSVM
        >>> x = torch.randn(20, 3)
        >>> SklearnDetector(OneClassSVM())(Samples(x, torch.zeros(20)), x[:5]).shape
        torch.Size([5, 1])
    """

    needs = "score_samples"

    def learn(self, support: Samples) -> Predictor:
        """Fit a clone of the detector to the support rows."""
        with one_thread():
            return partial(_detect, self._clone().fit(as_table(support.x)))


def _constant(label: int, way: int, query: Tensor) -> Tensor:
    return log_probabilities(one_hot(torch.full((len(query),), label), way).double(), query)


def _classify(classifier: Any, way: int, query: Tensor) -> Tensor:
    table = as_table(query)
    shares = torch.zeros(len(table), way, dtype=torch.float64)
    known = torch.from_numpy(np.asarray(classifier.classes_))
    if hasattr(classifier, "predict_proba"):
        shares[:, known] = torch.from_numpy(np.asarray(classifier.predict_proba(table))).double()
        return log_probabilities(shares, query)
    if hasattr(classifier, "decision_function"):
        margins = torch.from_numpy(np.asarray(classifier.decision_function(table))).double()
        if margins.ndim == 1:  # two classes: the logit of the second
            margins = torch.stack([torch.zeros_like(margins), margins], dim=1)
        if margins.shape[1] == len(known):  # else they are of pairs of classes
            shares[:, known] = margins.softmax(dim=1)
            return log_probabilities(shares, query)
    shares = one_hot(torch.from_numpy(np.asarray(classifier.predict(table))), way).double()
    return log_probabilities(shares, query)


def _regress(regressor: Any, targets: int, query: Tensor) -> Tensor:
    predictions = torch.from_numpy(np.asarray(regressor.predict(as_table(query))))
    return as_outputs(predictions, query).reshape(len(query), targets)


def _cluster(transformer: Any, assign: Any, noise: int, width: int, query: Tensor) -> Tensor:
    table = as_table(query)
    labels = assign(table if transformer is None else transformer.transform(table))
    columns = torch.from_numpy(np.where(labels < 0, noise, labels))
    return log_probabilities(one_hot(columns, width).double(), query)


def _detect(detector: Any, query: Tensor) -> Tensor:
    scores = torch.from_numpy(np.asarray(-detector.score_samples(as_table(query))))
    return as_outputs(scores, query)[:, None]
