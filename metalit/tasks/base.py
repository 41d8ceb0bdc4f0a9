"""The contract of a distribution over tasks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ..episodes import Episode, stack


class TaskDistribution(ABC):
    """p(T): where episodes come from.

    `fit` sees the data once a process, `sample` draws one episode, and `transform` changes how a
    whole meta-batch looks, on the device. All randomness comes from the generators passed in, so
    that an episode is a pure function of its seed.
    """

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Learn what is needed from a split of the data; synthetic tasks need nothing.

        Args:
            x: Inputs of shape `(N, *features)`, float32, or uint8 images of 0 to 255.
            y: Labels of shape `(N,)`, int64, or None. Unsupervised tasks do not look at them.

        Raises:
            ValueError: If no episode could be built from this data.
        """
        return self

    def fingerprints(self) -> list[str]:
        """Return the SHA-256 of all data that the tasks read themselves, which they read now.

        A run is not resumed with others. Tasks that learn from `fit` alone have none.
        """
        return []

    def at(self, number: int) -> "TaskDistribution":
        """Return the distribution that training episode `number` comes from: always the same.

        A curriculum answers differently as the numbers grow. Evaluation does not ask.

        Args:
            number: Number of the episode, 0 or more.
        """
        return self

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Episode:
        """Draw one episode on the CPU, from nothing but the generator and the fitted data.

        Returns:
            Support and query with float32 x and fixed shapes (see `Samples`), disjoint where they
            come from the same data.
        """

    def sample_batch(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw a meta-batch of B episodes; episode b is, bit for bit, `sample(generators[b])`.

        Override it where that is cheaper at once: draw per episode, look all samples up together.

        Args:
            generators: B CPU generators, one an episode.
        """
        return stack([self.sample(generator) for generator in generators])

    def transform(self, episodes: Episode, generators: Sequence[torch.Generator]) -> Episode:
        """Change how a meta-batch of B episodes looks, on whatever device it is on.

        Args:
            episodes: A meta-batch.
            generators: B CPU generators, one an episode. Draw per episode and apply at once.
        """
        return episodes
