"""The supervised meta-learner: a learned combination of any learners."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..combinations import Combination, Evidence, Gate, Stacking, Weighting
from ..episodes import Samples
from .base import Learner, Predictor


class SupervisedMetaLearner(Learner):
    """Trains several base learners on a task and combines them by a learned strategy.

    In the support set of a task it is a super learner (van der Laan et al., 2007): base learners
    are cross-validated and the weights minimise the held-out loss, see `Stacking`. Across tasks a
    `Gate` learns to map descriptors of a task to a prior of those weights, which is all there is
    where a task is too small to be cut into folds, and which the weights are drawn to otherwise.
    The outer loop trains the gate and whatever can be trained in the base learners, such as the
    initial weights of a MAML among them.

    Args:
        learners: Base learners of any type, by names of your own.
        combination: How answers are combined: `Stacking` (None) where there are labels or targets,
            `Consensus` of clusterers, `RankAverage` of detectors.
        hidden: Hidden units of the gate; 0 makes it linear, None leaves it out: then nothing is
            learned across tasks about the weights.

    Raises:
        ValueError: If there are no learners or `hidden` is negative.

    Example:
        >>> import torch
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from sklearn.tree import DecisionTreeClassifier
        >>> from metalit.learners import SklearnClassifier
        >>> tree = SklearnClassifier(DecisionTreeClassifier())
        >>> bayes = SklearnClassifier(GaussianNB())
        >>> learner = SupervisedMetaLearner({"tree": tree, "bayes": bayes})
        >>> support = Samples(torch.randn(12, 2), torch.arange(12) % 3)
        >>> learner(support, torch.randn(4, 2)).shape
        torch.Size([4, 3])

    References:
        Super Learner, https://doi.org/10.2202/1544-6115.1309
    """

    def __init__(
        self,
        learners: dict[str, Learner],
        combination: Combination | None = None,
        hidden: int | None = 16,
    ) -> None:
        super().__init__()
        if not learners:
            raise ValueError("learners is empty but base learners are needed: name at least one.")
        if hidden is not None and hidden < 0:
            raise ValueError(f"hidden={hidden} must be 0 or more, or None for no gate.")
        self.learners = nn.ModuleDict(learners)
        self.combination = combination
        self.hidden = hidden
        self.gate = None
        if hidden is not None:
            sizes = len(learners), self.combine.descriptors, self.combine.landmarks
            self.gate = Gate(*sizes, hidden=hidden)

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Train the base learners on the support set, then combine their answers."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Train and weigh the base learners."""
        evidence, weighting = self.weigh(support)
        return partial(self.combine.answer, evidence, weighting)

    def weigh(self, support: Samples) -> tuple[Evidence, Weighting]:
        """Train the base learners on a support set; find their weights, with a report."""
        evidence = self.combine.observe(self._learners, support)
        prior = evidence.landmarks.new_zeros(len(self.learners))
        if self.gate is not None:
            like = self.gate.bias
            seen = self.combine.describe(support)
            prior = self.gate(seen.to(like), evidence.landmarks.to(like))
            if not self.training:  # then the combination has to win, gradient or not
                prior = prior.detach()
        return evidence, self.combine.weigh(list(self.learners), evidence, support, prior)

    def check(self, support: Samples) -> None:
        """Refuse an episode that a base learner cannot learn from."""
        for name, learner in self._learners.items():
            try:
                learner.check(support)
            except ValueError as error:
                raise ValueError(f"base learner {name!r}: {error}") from error

    @property
    def combine(self) -> Combination:
        """The combination that is used."""
        return Stacking() if self.combination is None else self.combination

    @property
    def _learners(self) -> Mapping[str, Any]:
        return dict(self.learners.items())
