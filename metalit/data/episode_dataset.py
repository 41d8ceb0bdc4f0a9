"""Episodes by number: the map-style data set that every loader of metalit reads."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Dataset

from ..episodes import Episode, first, stack
from ..tasks import TaskDistribution
from .seeds import episode_seeds


class MetaBatch(NamedTuple):
    """What a loader yields; `EpisodeDataModule` turns it into a plain `Episode` on the device.

    Attributes:
        episodes: Episodes with a leading dimension B.
        seeds: One seed an episode for `TaskDistribution.transform`, kept on the CPU.
        stage: "train", "val", "test" or "predict".
    """

    episodes: Episode
    seeds: list[int]
    stage: str


class EpisodeDataset(Dataset[Episode]):
    """Episode i of a stage, as a pure function of `(seed, stage, i)`.

    Nothing is remembered between two calls: every worker, rank, world size and restart gets the
    same episode for the same number, alone or in a meta-batch, and no random state ever needs to be
    saved.

    Args:
        tasks: The fitted distribution to draw from.
        seed: Seed of the data module.
        stage: "train", "val" or "test".
        episodes: Number of episodes of the stage; training numbers may go beyond it.
    """

    def __init__(self, tasks: TaskDistribution, seed: int, stage: str, episodes: int) -> None:
        self.tasks = tasks
        self.seed = seed
        self.stage = stage
        self.episodes = episodes

    def __len__(self) -> int:
        """Return the number of episodes."""
        return self.episodes

    def __getitem__(self, index: int) -> Episode:
        """Return episode `index`."""
        return first(self.meta_batch([index]).episodes)

    def __getitems__(self, indices: Sequence[int]) -> MetaBatch:
        """Return a meta-batch; torch's loaders ask for all of a batch at once by this name."""
        return self.meta_batch(indices)

    def meta_batch(self, indices: Sequence[int]) -> MetaBatch:
        """Return the episodes of these numbers and the seeds of their transforms.

        Raises:
            ValueError: If the episodes have different shapes.
        """
        seeds = [episode_seeds(self.seed, self.stage, index) for index in indices]
        generators = [torch.Generator().manual_seed(draw) for draw, _ in seeds]
        tasks = [self.tasks.at(i) if self.stage == "train" else self.tasks for i in indices]
        if all(each is tasks[0] for each in tasks):
            episodes = tasks[0].sample_batch(generators)
        else:  # a curriculum
            pairs = zip(tasks, generators, strict=True)
            episodes = stack([each.sample(generator) for each, generator in pairs])
        return MetaBatch(episodes, [transform for _, transform in seeds], self.stage)
