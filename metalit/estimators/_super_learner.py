"""What all super learners of one table share: named base learners and their weights."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted, check_random_state, validate_data
from torch import Tensor

from ..combinations import Combination, Gate
from ..episodes import Samples
from ..learners import Learner, SupervisedMetaLearner
from ..scikit import one_thread

Named = Sequence[tuple[str, BaseEstimator]]


# scikit-learn has no types to be seen by mypy
class SuperLearner(_BaseComposition):  # type: ignore[misc]
    """Named base learners, whose parameters can be set, and the weights that they were given."""

    estimators: Named | None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of the named base learners too."""
        return dict(self._get_params("estimators", deep=deep))

    def set_params(self, **params: Any) -> Self:
        """Set parameters, those of base learners as `name__parameter`."""
        self._set_params("estimators", **params)
        return self

    def _learn(self, support: Samples, gate: Gate | None = None) -> None:
        """Train and weigh the base learners on a table, with the prior of a trained gate."""
        named = self._defaults(len(support.x)) if self.estimators is None else self.estimators
        pairs = isinstance(named, list | tuple) and all(
            isinstance(pair, list | tuple) and len(pair) == 2 for pair in named
        )
        names = [name for name, _ in named] if pairs else []
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"estimators={named!r} but a list needs at least one (name, estimator), the names "
                "all different: correct it."
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        learners = {name: self._wrap(clone(estimator), seed) for name, estimator in named}
        combination = self._combination(seed)
        learner = SupervisedMetaLearner(learners, combination, hidden=None).eval()
        learner.gate = gate
        with torch.no_grad(), one_thread():
            evidence, weighting = learner.weigh(support)
        self.report_ = weighting.report
        self.weights_ = dict(weighting.report["weights"])
        self._answer = combination, evidence, weighting

    def _outputs(self, x: Any) -> Tensor:
        check_is_fitted(self)
        table = validate_data(self, x, reset=False, dtype=np.float64)
        combination, evidence, weighting = self._answer
        with torch.no_grad(), one_thread():
            answer: Tensor = combination.answer(evidence, weighting, torch.tensor(table))
        return answer

    @abstractmethod
    def _combination(self, seed: int) -> Combination:
        """How the base learners are combined."""

    @abstractmethod
    def _defaults(self, rows: int) -> Named:
        """Base learners for a table of so many rows, where none are named."""

    @abstractmethod
    def _wrap(self, estimator: BaseEstimator, seed: int) -> Learner:
        """Make a learner of an estimator."""
