"""The contract of a few-shot learner."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..episodes import Samples

Predictor = Callable[[Tensor], Tensor]
"""From query inputs of shape `(Q, *features)` to outputs of shape `(Q, K)`."""


class Learner(nn.Module, ABC):
    """A function from a support set and query inputs to query outputs, for ONE task.

    Whatever the outer loop should train is a parameter of this module. How tasks are batched is
    not the learner's business: `MetaLearner` sees to it.
    """

    @abstractmethod
    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Learn from the support set and answer for the query inputs.

        Args:
            support: x of shape `(S, *features)`, y of shape `(S,)` with integers in `[0, way)` or
                -1 for "no label", or float targets of shape `(S, d)`.
            query: Inputs of shape `(Q, *features)`.

        Returns:
            Outputs of shape `(Q, K)`: K is `way` for classification and clustering (logits), the
            number of targets for regression, 1 for an anomaly score (higher is more anomalous).
        """

    def learn(self, support: Samples) -> Predictor:
        """Learn from the support set; return a function that answers for query inputs.

        `learner.learn(support)(query)` equals `learner(support, query)`. A learner whose learning
        takes time splits it off here, so that one fit serves any number of queries, and calls it in
        `forward`. What is returned can be pickled. By default it learns anew for every query.

        Args:
            support: See `forward`.
        """
        return partial(self, support)

    def check(self, support: Samples) -> None:
        """Raise a ValueError in one line if the support set does not fit this learner.

        `MetaLearner` calls it once a stage, with the first episode, before any work is done.
        """

    @property
    def name(self) -> str:
        """What reports call this learner."""
        return type(self).__name__
