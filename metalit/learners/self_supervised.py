"""A learner that makes its own labels."""

from torch import Tensor

from ..episodes import Samples
from .base import Learner, Predictor
from .pretexts import Pretext


class SelfSupervised(Learner):
    """Lets a learner learn from a support set that a pretext made of the unlabelled rows.

    An inner loss sees outputs and labels, not inputs. What an unsupervised objective needs beyond
    the outputs for the rows (outliers, a reference sample, another view of each row) becomes rows
    and labels of the support set here, before the inner loop starts; query rows stay as they are.

    Args:
        learner: Learns from what the pretext makes, for example `MAML`.
        pretext: Makes the support set, such as `ArtificialOutliers`.

    Example:
        >>> import torch
        >>> from metalit.inner_loops import GradientDescent
        >>> from metalit.learners import MAML, ArtificialOutliers
        >>> from metalit.losses import OutlierExposure
        >>> maml = MAML(torch.nn.Linear(2, 1), GradientDescent(lr=0.1), OutlierExposure())
        >>> learner = SelfSupervised(maml, ArtificialOutliers())
        >>> learner(Samples(torch.randn(6, 2), torch.full((6,), -1)), torch.randn(4, 2)).shape
        torch.Size([4, 1])
    """

    def __init__(self, learner: Learner, pretext: Pretext) -> None:
        super().__init__()
        self.learner = learner
        self.pretext = pretext

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Make the support set, learn from it and answer for the query inputs."""
        outputs: Tensor = self.learner(self.pretext(support), query)
        return outputs

    def learn(self, support: Samples) -> Predictor:
        """Make the support set and learn from it."""
        return self.learner.learn(self.pretext(support))

    def check(self, support: Samples) -> None:
        """Refuse an episode that does not fit the learner, once the pretext has changed it."""
        self.learner.check(self.pretext(support))

    @property
    def name(self) -> str:
        """The name of the learner itself."""
        return self.learner.name
