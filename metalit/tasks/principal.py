"""Tables of any number of columns for networks of a fixed width."""

from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..episodes import Episode
from .base import TaskDistribution


class PrincipalTasks(TaskDistribution):
    """Replaces the columns of tables by a fixed number of principal components.

    The components are those of the support set and the query is projected onto them. So a network
    of one width meets tables of any width, and the direction in which rows vary most, which often
    tells clusters apart, is always its first input. A table with fewer components gets columns of
    0. All components are divided by the deviation of the first; the sign of each is such that its
    skewness is positive, since a singular vector has none.

    Args:
        tasks: Draws episodes whose x has shape `(N, D)`, for example `TableTasks`.
        components: Columns that come out.

    Raises:
        ValueError: If `components` is smaller than 1.

    Example:
        >>> from metalit.tasks import OutlierTasks
        >>> tasks = PrincipalTasks(OutlierTasks(features=10), components=4)
        >>> tasks.sample(torch.Generator().manual_seed(0)).query.x.shape
        torch.Size([100, 4])
    """

    def __init__(self, tasks: TaskDistribution, components: int = 8) -> None:
        if components < 1:
            raise ValueError(f"components={components} must be at least 1: raise it.")
        self.tasks = tasks
        self.components = components

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Fit the tasks."""
        self.tasks = self.tasks.fit(x, y)
        return self

    def at(self, number: int) -> TaskDistribution:
        """Return the components of what the tasks are at this episode."""
        return PrincipalTasks(self.tasks.at(number), self.components)

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw an episode and project it."""
        support, query = self.tasks.sample(generator)
        mean = support.x.mean(dim=0)
        axes = torch.linalg.svd(support.x - mean, full_matrices=False).Vh[: self.components]
        scores = (support.x - mean) @ axes.T
        skewed = torch.where(scores.pow(3).sum(dim=0) < 0, -1.0, 1.0)
        spread = scores[:, 0].std()
        unit = torch.where(spread > 1e-9, spread, 1.0)
        missing = self.components - len(axes)

        def project(x: Tensor) -> Tensor:
            return pad((x - mean) @ axes.T * skewed / unit, (0, missing))

        return Episode(support._replace(x=project(support.x)), query._replace(x=project(query.x)))
