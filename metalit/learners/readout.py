"""Labels or targets read out of what a clusterer or a detector finds."""

import copy
from functools import partial

import torch
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..episodes import Samples
from .base import Learner, Predictor
from .sklearn import SklearnClassifier, SklearnRegressor


class Readout(Learner):
    """Makes a classifier or regressor of a learner that finds clusters or anomalies.

    The learner sees the support inputs without labels; a scikit-learn estimator then learns the
    labels from its outputs for the support rows: the probabilities of clusters, or the anomaly
    score. So that a super learner can mix clusterers and detectors with classifiers, and whatever
    structure they find counts for as much as it says about the labels.

    Args:
        learner: Any learner that needs no labels. It is copied, with its parameters frozen: no
            gradient comes back through the estimator.
        estimator: What reads the labels or targets out. None takes logistic or ridge regression.
        seed: Where each `random_state` in the estimator comes from, in every task the same.

    Example:
        >>> from sklearn.cluster import KMeans
        >>> from metalit.learners import SklearnClusterer
        >>> x = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
        >>> learner = Readout(SklearnClusterer(KMeans(), n_clusters=2))
        >>> learner(Samples(x, torch.tensor([1, 1, 0, -1])), x).argmax(dim=1)
        tensor([1, 1, 0, 0])
    """

    def __init__(
        self, learner: Learner, estimator: BaseEstimator | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.learner = copy.deepcopy(learner).requires_grad_(False)
        self.estimator = estimator
        self.seed = seed

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Find the structure of the support inputs, learn what it means, and answer."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Train the learner without labels and the estimator on its outputs."""
        find = self.learner.learn(Samples(support.x, torch.full(support.y.shape[:1], -1)))
        found = support._replace(x=_features(find(support.x)))
        return partial(_read, find, self._reader(support).learn(found))

    def check(self, support: Samples) -> None:
        """Refuse a support set that the learner or the estimator refuses."""
        self.learner.check(support)
        self._reader(support).check(support)

    @property
    def name(self) -> str:
        """The name of the learner inside."""
        return self.learner.name

    def _reader(self, support: Samples) -> Learner:
        regression = support.y.is_floating_point()
        estimator = self.estimator
        if estimator is None:
            linear = Ridge() if regression else LogisticRegression()
            estimator = make_pipeline(StandardScaler(), linear)
        kind = SklearnRegressor if regression else SklearnClassifier
        return kind(estimator, seed=self.seed)


def _features(outputs: Tensor) -> Tensor:
    """Probabilities of clusters, or the anomaly score as it is."""
    return outputs if outputs.shape[1] == 1 else outputs.softmax(dim=1)


def _read(find: Predictor, read: Predictor, query: Tensor) -> Tensor:
    return read(_features(find(query)))
