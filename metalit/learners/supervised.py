"""The supervised meta-learner: a learned combination of any learners."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..combinations import Combination, Consensus, Evidence, Gate, RankAverage, Stacking, Weighting
from ..combinations.base import named
from ..combinations.replacement import COMBINATION
from ..episodes import Samples
from .base import Learner, Predictor
from .sklearn import SklearnClassifier, SklearnClusterer, SklearnDetector, SklearnRegressor
from .unsupervised import UnsupervisedMetaLearner


class SupervisedMetaLearner(Learner):
    """Trains several base learners on a task and combines them by a learned strategy.

    In the support set of a task it is a super learner (van der Laan et al., 2007): base learners
    are cross-validated and the weights minimise the held-out loss, see `Stacking`. Across tasks a
    `Gate` learns to map descriptors of a task to a prior of those weights, which is all there is
    where a task is too small to be cut into folds, and which the weights are drawn to otherwise.
    The outer loop trains the gate and whatever can be trained in the base learners, such as the
    initial weights of a MAML among them.

    In training, when something in it requires a gradient, every base learner is used as its weight
    says; in evaluation one may be chosen to answer alone, see the combination.

    Args:
        learners: Base learners of any type, by names of your own.
        combination: How answers are combined: `Stacking` (None) where there are labels or targets,
            `Consensus` of clusterers, `RankAverage` of detectors.
        hidden: Hidden units of the gate; 0 makes it linear, None leaves it out: then nothing is
            learned across tasks about the weights.

    Raises:
        ValueError: If there are no learners, a name cannot be one, a learner does not suit the
            combination, or `hidden` is negative.

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
        for name, learner in learners.items():
            _check_base_learner(name, learner, combination)
        if hidden is not None and hidden < 0:
            raise ValueError(f"hidden={hidden} must be 0 or more, or None for no gate.")
        self.learners = nn.ModuleDict(learners)
        self.combination = combination
        self.hidden = hidden
        self.gate = None
        if hidden is not None:
            sizes = len(learners), self.strategy.n_descriptors, self.strategy.n_landmarks
            self.gate = Gate(*sizes, hidden=hidden)

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Train the base learners on the support set, then combine their answers."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Train and weigh the base learners."""
        evidence, weighting = self.weigh(support)
        return partial(self.strategy.answer, evidence, weighting)

    def weigh(self, support: Samples) -> tuple[Evidence, Weighting]:
        """Train the base learners on a support set; find their weights, with a report."""
        evidence = self.strategy.observe(self._learners, support)
        prior = evidence.landmarks.new_zeros(len(self.learners))
        if self.gate is not None:
            like = self.gate.bias
            seen = self.strategy.describe(support)
            prior = self.gate(seen.to(like), evidence.landmarks.to(like))
        # without anything to train there is no training mode
        training = self.training and any(p.requires_grad for p in self.parameters())
        names = list(self.learners)
        return evidence, self.strategy.weigh(names, evidence, support, prior, training)

    def check(self, support: Samples) -> None:
        """Refuse an episode that a base learner cannot learn from."""
        for name, learner in self._learners.items():
            with named(name):
                learner.check(support)

    @property
    def strategy(self) -> Combination:
        """The combination that is used: `Stacking()` where none is given."""
        return Stacking() if self.combination is None else self.combination

    @property
    def _learners(self) -> Mapping[str, Any]:
        return dict(self.learners.items())


def _check_base_learner(name: str, learner: Learner, combination: Combination | None) -> None:
    """Refuse a name that torch or a report has taken, and outputs that mean something else."""
    if not name or "." in name or name == COMBINATION or hasattr(nn.ModuleDict(), name):
        raise ValueError(
            f"a base learner cannot be called {name!r}: take another name, without a dot."
        )
    clusters = isinstance(learner, SklearnClusterer | UnsupervisedMetaLearner)
    scores = isinstance(learner, SklearnDetector)
    predicts = isinstance(learner, SklearnClassifier | SklearnRegressor)
    if (clusters or scores) and (combination is None or isinstance(combination, Stacking)):
        raise ValueError(
            f"base learner {name!r} ({learner.name}) gives clusters or a score but Stacking mixes "
            "labels or targets: put it into a Readout."
        )
    if (predicts or scores) and isinstance(combination, Consensus):
        raise ValueError(
            f"base learner {name!r} ({learner.name}) is no clusterer but Consensus combines "
            "clusterers: take another combination."
        )
    if (predicts or clusters) and isinstance(combination, RankAverage):
        raise ValueError(
            f"base learner {name!r} ({learner.name}) is no detector but RankAverage combines "
            "anomaly scores: take another combination."
        )
