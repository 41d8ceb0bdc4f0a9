"""Episodes whose rows are all to be clustered together."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ..episodes import Episode, Samples
from .base import TaskDistribution


class JointTasks(TaskDistribution):
    """Makes one set of the support and query rows of other tasks, for clustering what is there.

    A clusterer that learns from rows and answers for the same rows is scored on a partition of
    them, as in few-shot clustering (Huang et al., 2019): with `LabelTasks(way=5, shot=1,
    query_shot=4)` it gets 5 unlabelled images of each of 5 classes and partitions all 25. Support
    and query of an episode are then the same, which suits only a learner that does not look at the
    support labels. `transform` joins the sets; what `sample` draws is still disjoint.

    Args:
        tasks: The tasks whose rows are joined.

    Example:
        >>> from metalit.data import EpisodeDataset
        >>> from metalit.tasks import LabelTasks
        >>> tasks = JointTasks(LabelTasks(way=3, shot=1, query_shot=1))
        >>> tasks = tasks.fit(torch.arange(60.0)[:, None], torch.arange(60) % 6)
        >>> generator = torch.Generator().manual_seed(0)
        >>> batch = [part[None] for samples in tasks.sample(generator) for part in samples]
        >>> episodes = Episode(Samples(*batch[:2]), Samples(*batch[2:]))
        >>> tasks.transform(episodes, [generator]).query.x.shape
        torch.Size([1, 6, 1])

    References:
        Centroid Networks, https://arxiv.org/abs/1902.08605
    """

    def __init__(self, tasks: TaskDistribution) -> None:
        self.tasks = tasks

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Fit the tasks."""
        self.tasks.fit(x, y)
        return self

    def fingerprints(self) -> list[str]:
        """Return those of the tasks."""
        return self.tasks.fingerprints()

    def at(self, number: int) -> TaskDistribution:
        """Return the joint rows of what the tasks are at this episode."""
        return JointTasks(self.tasks.at(number))

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw an episode of the tasks."""
        return self.tasks.sample(generator)

    def sample_batch(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw episodes of the tasks."""
        return self.tasks.sample_batch(generators)

    def transform(self, episodes: Episode, generators: Sequence[torch.Generator]) -> Episode:
        """Transform as the tasks do, then give both sets the rows of both."""
        support, query = self.tasks.transform(episodes, generators)
        joint = Samples(torch.cat([support.x, query.x], 1), torch.cat([support.y, query.y], 1))
        return Episode(joint, joint)
