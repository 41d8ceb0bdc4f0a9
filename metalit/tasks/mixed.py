"""Several distributions over tasks as one, mixed or one after another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor

from ..episodes import Episode
from .base import TaskDistribution


class MixedTasks(TaskDistribution):
    """Draws each episode from one of several distributions, at random.

    The distributions keep their own `sample`; augmentations on the device (`transform`) are none.
    Episodes of different shapes need meta_batch_size=1.

    Args:
        tasks: The distributions.
        weights: How often each is drawn, in any unit; None for all alike.

    Raises:
        ValueError: If there is no distribution, or a weight for each that is positive; in `fit`
            and when sampling, if one of them cannot give a task.

    Example:
        >>> from metalit.tasks import SinusoidTasks
        >>> tasks = MixedTasks([SinusoidTasks(), SinusoidTasks()], weights=[3, 1])
    """

    def __init__(
        self, tasks: Sequence[TaskDistribution], weights: Sequence[float] | None = None
    ) -> None:
        given = [1.0] * len(tasks) if weights is None else list(weights)
        shares = torch.tensor(given, dtype=torch.float32)  # as they will be drawn with
        drawable = bool((shares > 0).all()) and bool(shares.sum().isfinite())
        if not tasks or len(given) != len(tasks) or not drawable:
            raise ValueError(
                f"got {len(tasks)} distributions and weights={weights} but there must be one or "
                "more, with a positive weight for each: change the one that does not fit."
            )
        self.tasks = tasks
        self.weights = weights

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Fit each of the distributions."""
        fitted = []
        for number, tasks in enumerate(self.tasks):
            with _named(number, tasks):
                fitted.append(tasks.fit(x, y))
        self.tasks = fitted
        return self

    def fingerprints(self) -> list[str]:
        """Return those of all the distributions."""
        found = []
        for number, tasks in enumerate(self.tasks):
            with _named(number, tasks):
                found += tasks.fingerprints()
        return found

    def at(self, number: int) -> TaskDistribution:
        """Return the mixture of what the distributions are at this episode."""
        return MixedTasks([tasks.at(number) for tasks in self.tasks], self.weights)

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw a distribution, and an episode from it."""
        weights = [1.0] * len(self.tasks) if self.weights is None else list(self.weights)
        which = int(torch.multinomial(torch.tensor(weights).float(), 1, generator=generator))
        with _named(which, self.tasks[which]):
            return self.tasks[which].sample(generator)


@contextmanager
def _named(number: int, tasks: TaskDistribution) -> Iterator[None]:
    """Say which distribution an error comes from."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"tasks[{number}], {type(tasks).__name__}: {error}") from error


class Curriculum(TaskDistribution):
    """Starts with one distribution and ends with another (Bengio et al., 2009).

    Episode i of training comes from `last` with probability `i / episodes`, up to 1, else from
    `first`. Evaluation draws from `last`. What an episode is still depends on its number only, so
    that a resumed run goes on where it was.

    Args:
        first: Distribution at the start, such as easy tasks.
        last: Distribution after so many episodes.
        episodes: Length of the transition.

    Raises:
        ValueError: If `episodes` is smaller than 1.

    References:
        Curriculum learning, https://doi.org/10.1145/1553374.1553380
    """

    def __init__(self, first: TaskDistribution, last: TaskDistribution, episodes: int) -> None:
        if episodes < 1:
            raise ValueError(f"got episodes={episodes} but a curriculum has 1 or more: raise it.")
        self.first = first
        self.last = last
        self.episodes = episodes

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Fit both distributions."""
        self.first, self.last = self.first.fit(x, y), self.last.fit(x, y)
        return self

    def fingerprints(self) -> list[str]:
        """Return those of both distributions."""
        return [*self.first.fingerprints(), *self.last.fingerprints()]

    def at(self, number: int) -> TaskDistribution:
        """Return the mixture at this episode."""
        share = number / self.episodes
        if share <= 0 or share >= 1:
            return (self.last if share >= 1 else self.first).at(number)
        return MixedTasks([self.first.at(number), self.last.at(number)], [1 - share, share])

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw an episode of the end of the curriculum."""
        return self.last.sample(generator)

    def sample_batch(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw episodes of the end of the curriculum."""
        return self.last.sample_batch(generators)
