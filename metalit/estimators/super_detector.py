"""The super learner of detectors of one table, in scikit-learn's way."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from sklearn.utils.validation import validate_data

from ..combinations import RankAverage
from ..episodes import Samples
from ..learners import Learner, SklearnDetector
from ._super_learner import Named, SuperLearner


# scikit-learn has no types to be seen by mypy
class SuperLearnerDetector(OutlierMixin, SuperLearner):  # type: ignore[misc]
    """Brings the scores of several detectors to ranks and takes their mean.

    `SupervisedMetaLearner` with `metalit.combinations.RankAverage` on one table, without a learned
    gate: all detectors have the same weight.

    Args:
        estimators: List of (name, detector with `score_samples`); None takes an isolation forest
            and, on standardised columns, the local outlier factor and a one-class SVM.
        contamination: Share of the rows of `fit` that are taken for outliers, in (0, 0.5].
        random_state: Seed of the detectors.

    Attributes:
        offset_: Score below which a row is an outlier.
        weights_: Weight of each detector, by name.
        report_: The weights.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> detector = SuperLearnerDetector(contamination=0.02, random_state=0).fit(x)
        >>> detector.predict([[0.0, 0.0], [5.0, 5.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        estimators: Named | None = None,
        contamination: float = 0.1,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.contamination = contamination
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Fit the detectors to the rows of X `(N, D)`; y is ignored."""
        if not 0 < self.contamination <= 0.5:
            raise ValueError(
                f"contamination={self.contamination} is a share of rows: give one in (0, 0.5]."
            )
        table = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self._learn(Samples(torch.tensor(table), torch.zeros(len(table))))
        self.offset_ = float(np.percentile(self.score_samples(X), 100 * self.contamination))
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the mean rank of each row, negated: in [-1, 0], lower is more anomalous."""
        return np.asarray(-self._outputs(X)[:, 0].numpy())

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return `score_samples` less `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Return -1 for outliers and 1 for the others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _combination(self, seed: int) -> RankAverage:
        return RankAverage()

    def _defaults(self, rows: int) -> Named:
        neighbours = LocalOutlierFactor(min(20, rows - 1), novelty=True)
        return [
            ("forest", IsolationForest()),
            ("neighbours", make_pipeline(StandardScaler(), neighbours)),
            ("svm", make_pipeline(StandardScaler(), OneClassSVM())),
        ]

    def _wrap(self, estimator: BaseEstimator, seed: int) -> Learner:
        return SklearnDetector(estimator, seed=seed)
