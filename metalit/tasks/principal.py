"""Tables of any number of columns for networks of a fixed width."""

from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..episodes import Episode
from .base import TaskDistribution


def project(
    support: Tensor, query: Tensor, components: int, standardize: bool = False
) -> tuple[Tensor, Tensor]:
    """Project both sets of a table onto the principal components of its support set.

    All components are divided by the deviation of the first. The sign of each is such that its
    skewness in the support set is positive, since a singular vector has none. A table with fewer
    components gets columns of 0.

    Args:
        support: Rows of shape `(S, D)`, which alone decide the components.
        query: Rows of shape `(Q, D)`.
        components: Columns that come out.
        standardize: Divide each column by its deviation in the support set first.

    Returns:
        Support and query of shapes `(S, components)` and `(Q, components)`.
    """
    mean = support.mean(dim=0)
    deviation = support.std(dim=0)
    scale = torch.where(standardize & (deviation > 1e-9), deviation, 1.0)
    centred = (support - mean) / scale
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:components]
    scores = centred @ axes.T
    skewed = torch.where(scores.pow(3).sum(dim=0) < 0, -1.0, 1.0)
    spread = scores[:, 0].std()
    unit = torch.where(spread > 1e-9, spread, 1.0)
    parts = (centred, (query - mean) / scale)
    missing = components - len(axes)
    support, query = (pad(part @ axes.T * skewed / unit, (0, missing)) for part in parts)
    return support, query


class PrincipalTasks(TaskDistribution):
    """Replaces the columns of tables by a fixed number of principal components.

    The components are those of the support set and the query is projected onto them. So a network
    of one width meets tables of any width, and the direction in which rows vary most, which often
    tells clusters apart, is always its first input. Their unit and signs are those of `project`.

    Args:
        tasks: Draws episodes whose x has shape `(N, D)`, for example `TableTasks`.
        components: Columns that come out.
        standardize: Divide each column by its deviation in the support set first, for tables whose
            columns have units of their own.

    Raises:
        ValueError: If `components` is smaller than 1.

    Example:
        >>> from metalit.tasks import OutlierTasks
        >>> tasks = PrincipalTasks(OutlierTasks(features=10), components=4)
        >>> tasks.sample(torch.Generator().manual_seed(0)).query.x.shape
        torch.Size([100, 4])
    """

    def __init__(
        self, tasks: TaskDistribution, components: int = 8, standardize: bool = False
    ) -> None:
        if components < 1:
            raise ValueError(f"components={components} must be at least 1: raise it.")
        self.tasks = tasks
        self.components = components
        self.standardize = standardize

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Fit the tasks."""
        self.tasks = self.tasks.fit(x, y)
        return self

    def fingerprints(self) -> list[str]:
        """Return those of the tasks."""
        return self.tasks.fingerprints()

    def at(self, number: int) -> TaskDistribution:
        """Return the components of what the tasks are at this episode."""
        return PrincipalTasks(self.tasks.at(number), self.components, self.standardize)

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw an episode and project it."""
        support, query = self.tasks.sample(generator)
        x, asked = project(support.x, query.x, self.components, self.standardize)
        return Episode(support._replace(x=x), query._replace(x=asked))
