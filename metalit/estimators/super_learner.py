"""Super learners of one table with labels or targets, in scikit-learn's way."""

import inspect
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from ..combinations import Stacking
from ..episodes import Samples
from ..learners import Learner, SklearnClassifier, SklearnRegressor
from ._super_learner import Named, SuperLearner


class _Stacked(SuperLearner):
    """Super learners that are combined by `Stacking`."""

    def _combination(self, seed: int) -> Stacking:
        """Hand the parameters of the estimator to `Stacking`, whose names they have."""
        known = inspect.signature(Stacking).parameters
        own = self.get_params(deep=False)
        given = {name: value for name, value in own.items() if name in known}
        return Stacking(**given, folds=own["cv"], seed=seed)


# scikit-learn has no types to be seen by mypy
class SuperLearnerClassifier(ClassifierMixin, _Stacked):  # type: ignore[misc]
    """Cross-validates several classifiers and mixes their probabilities by learned weights.

    `SupervisedMetaLearner` on one table, see there and `metalit.combinations.Stacking` for what
    the parameters do. Unlike `StackingClassifier`, the weights are a convex mixture that minimises
    the held-out loss, and the mixture has to beat the best single classifier to be used.

    Args:
        estimators: List of (name, classifier); None takes logistic regression, nearest neighbours
            and a random forest, the first two on standardised columns.
        weights: "vector" or "matrix".
        link: "softmax" or "sigmoid".
        loss: "cross_entropy" or "brier".
        solver: See `metalit.combinations.solvers`.
        penalty: Strength of equal weights, in rows.
        cv: Folds of the cross-validation.
        row_descriptors: Transformer to what the weights depend on, or None.
        side_columns: Columns that only the weights depend on.
        margin: By how much the mixture must beat the best classifier.
        alpha: Level of the test of it; 1 lets the mean decide.
        random_state: Seed of the folds, of random solvers and of the base learners.

    Attributes:
        classes_: The classes.
        weights_: Mean weight of each base learner in the mixture, by name.
        report_: Held-out losses, p-value, what was kept and why.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> model = SuperLearnerClassifier(random_state=0).fit(*load_iris(return_X_y=True))
        >>> model.predict([[5.1, 3.5, 1.4, 0.2]]), list(model.weights_)
        (array([0]), ['logistic', 'neighbours', 'forest'])
    """

    def __init__(
        self,
        estimators: Named | None = None,
        weights: str = "vector",
        link: str = "softmax",
        loss: str = "cross_entropy",
        solver: str = "lbfgs",
        penalty: float = 0.3,
        cv: int = 5,
        row_descriptors: BaseEstimator | None = None,
        side_columns: Sequence[int] = (),
        margin: float = 0.0,
        alpha: float = 0.05,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.link = link
        self.loss = loss
        self.solver = solver
        self.penalty = penalty
        self.cv = cv
        self.row_descriptors = row_descriptors
        self.side_columns = side_columns
        self.margin = margin
        self.alpha = alpha
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Cross-validate, weigh and fit the base learners to X `(N, D)`, y `(N,)`."""
        table, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        self.classes_ = encoder.classes_
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has one class, {self.classes_[0]!r}, but a classifier needs two or more: give "
                "rows of another class."
            )
        labels = torch.from_numpy(encoder.transform(y).astype(np.int64))
        self._learn(Samples(torch.tensor(table), labels))
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of the classes, of shape `(N, classes)`."""
        return np.asarray(self._outputs(X).softmax(dim=1).numpy())

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the most probable class of each row."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _defaults(self, rows: int) -> Named:
        near = max(1, min(5, rows // 2))  # some folds have half of the rows
        return [
            ("logistic", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
            ("neighbours", make_pipeline(StandardScaler(), KNeighborsClassifier(near))),
            ("forest", RandomForestClassifier()),
        ]

    def _wrap(self, estimator: BaseEstimator, seed: int) -> Learner:
        return SklearnClassifier(estimator, seed=seed)


# scikit-learn has no types to be seen by mypy
class SuperLearnerRegressor(RegressorMixin, _Stacked):  # type: ignore[misc]
    """Cross-validates several regressors and mixes their predictions by learned weights.

    Args:
        estimators: List of (name, regressor); None takes ridge regression, nearest neighbours and
            a random forest, the first two on standardised columns.
        link: "softmax" or "sigmoid".
        solver: See `metalit.combinations.solvers`.
        penalty: Strength of equal weights, in rows.
        cv: Folds of the cross-validation.
        row_descriptors: Transformer to what the weights depend on, or None.
        side_columns: Columns that only the weights depend on.
        margin: By how much, in units of the squared error, the mixture must beat the best one.
        alpha: Level of the test of it; 1 lets the mean decide.
        random_state: Seed of the folds, of random solvers and of the base learners.

    Attributes:
        weights_: Mean weight of each base learner in the mixture, by name.
        report_: Held-out losses, p-value, what was kept and why.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> model = SuperLearnerRegressor(random_state=0).fit(*load_diabetes(return_X_y=True))
        >>> model.report_["best"]
        'ridge'
    """

    def __init__(
        self,
        estimators: Named | None = None,
        link: str = "softmax",
        solver: str = "lbfgs",
        penalty: float = 0.3,
        cv: int = 5,
        row_descriptors: BaseEstimator | None = None,
        side_columns: Sequence[int] = (),
        margin: float = 0.0,
        alpha: float = 0.05,
        random_state: Any = None,
    ) -> None:
        self.estimators = estimators
        self.link = link
        self.solver = solver
        self.penalty = penalty
        self.cv = cv
        self.row_descriptors = row_descriptors
        self.side_columns = side_columns
        self.margin = margin
        self.alpha = alpha
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Cross-validate, weigh and fit the base learners to X `(N, D)`, y `(N,)` or `(N, d)`."""
        table, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = np.asarray(y, dtype=np.float64).reshape(len(table), -1)
        self._columns = np.ndim(y)
        self._learn(Samples(torch.tensor(table), torch.tensor(targets)))
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return predictions, in the form of y."""
        predictions = self._outputs(X).numpy()
        return np.asarray(predictions[:, 0] if self._columns == 1 else predictions)

    def __sklearn_tags__(self) -> Any:
        """Say that several targets are predicted together."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _defaults(self, rows: int) -> Named:
        near = max(1, min(5, rows // 2))  # some folds have half of the rows
        return [
            ("ridge", make_pipeline(StandardScaler(), Ridge())),
            ("neighbours", make_pipeline(StandardScaler(), KNeighborsRegressor(near))),
            ("forest", RandomForestRegressor()),
        ]

    def _wrap(self, estimator: BaseEstimator, seed: int) -> Learner:
        return SklearnRegressor(estimator, seed=seed)
