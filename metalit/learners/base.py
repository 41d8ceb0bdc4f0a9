"""The contract of a few-shot learner."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..episodes import Samples


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

    def check(self, support: Samples) -> None:
        """Raise a ValueError in one line if the support set does not fit this learner.

        `MetaLearner` calls it once a stage, with the first episode, before any work is done.
        """
