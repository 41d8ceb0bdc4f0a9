"""The contract of a way to combine the answers of several learners."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..descriptors import DESCRIPTORS, describe_task
from ..episodes import Samples

if TYPE_CHECKING:  # learners are made of combinations, not the other way round
    from ..learners.base import Learner, Predictor


@dataclass(frozen=True)
class Evidence:
    """What is known about K base learners after they have seen a support set.

    Attributes:
        predictors: The K base learners, fitted to the whole support set.
        outputs: Their answers for the S support rows, brought to one form, of shape
            `(K, S, C)`: cross-validated where there are labels.
        landmarks: L numbers for each base learner, of order 1, shape `(K, L)`: how well it does.
        state: What else the combination wants to remember of the support set.
    """

    predictors: "Sequence[Predictor]"
    outputs: Tensor
    landmarks: Tensor
    state: Any = None


@dataclass(frozen=True)
class Weighting:
    """The weights of K base learners in one task, and why they are what they are.

    Attributes:
        weights: Of shape `(K,)`, or `(K, C)` with one weight a class; rows, if they depend on the
            row, are made by the combination when it answers.
        report: What was found, as JSON primitives, for people to read.
        state: What else `answer` needs.
    """

    weights: Tensor
    report: dict[str, Any] = field(default_factory=dict)
    state: Any = None


class Combination(ABC):
    """How the answers of several base learners become one.

    `observe` lets the base learners see the support set, `weigh` turns what was seen, and a prior
    that may have been learned across tasks, into weights, `answer` combines the base learners'
    answers for query inputs. All three are written for one task.

    Attributes:
        n_landmarks: Number L of landmarks of a base learner, fixed.
    """

    n_landmarks: int

    @property
    def n_descriptors(self) -> int:
        """Number T of descriptors of a task."""
        return len(DESCRIPTORS)

    def describe(self, support: Samples) -> Tensor:
        """Describe a support set, for the gate: numbers of order 1, of shape `(T,)`."""
        return describe_task(support)

    def visible(self, x: Tensor) -> Tensor:
        """Return what base learners see of inputs `(N, *features)`."""
        return x

    @abstractmethod
    def observe(self, learners: "Mapping[str, Learner]", support: Samples) -> Evidence:
        """Fit K base learners to the support set and find out how well they do on it."""

    @abstractmethod
    def weigh(
        self,
        names: Sequence[str],
        evidence: Evidence,
        support: Samples,
        prior: Tensor,
        training: bool = False,
    ) -> Weighting:
        """Weigh the base learners.

        Args:
            names: Names of the K base learners, for the report.
            evidence: What `observe` returned.
            support: The support set.
            prior: Logits of the weights before the labels of this task have spoken, of shape
                `(K,)`; zeros if nothing was learned across tasks. Weights are differentiable in it.
            training: Whether something is being trained, which must see what all weights do; else
                a base learner may be chosen to answer alone.
        """

    @abstractmethod
    def answer(self, evidence: Evidence, weighting: Weighting, query: Tensor) -> Tensor:
        """Combine the base learners' answers for query inputs into outputs, one row a query."""


def learn_all(learners: "Mapping[str, Learner]", support: Samples) -> "list[Predictor]":
    """Let each base learner learn a support set; one that refuses is named."""
    predictors = []
    for name, learner in learners.items():
        with named(name):
            predictors.append(learner.learn(support))
    return predictors


@contextmanager
def named(name: str) -> Iterator[None]:
    """Say which base learner a ValueError comes from."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"base learner {name!r}: {error}") from error
