"""Episodes by number: the map-style data set that every loader of metalit reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from ..episodes import Episode
from ..tasks import TaskDistribution

STAGES = ("train", "val", "test", "predict")


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


class EpisodeDataset(Dataset[tuple[Episode, int]]):
    """Episode i of a stage, as a pure function of `(seed, stage, i)`.

    Nothing is remembered between two calls: every worker, rank, world size and restart gets the
    same episode for the same number, and no random state ever needs to be saved.

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

    def __getitem__(self, index: int) -> tuple[Episode, int]:
        """Return episode `index` and the seed of its transform."""
        draw_seed, transform_seed = episode_seeds(self.seed, self.stage, index)
        generator = torch.Generator().manual_seed(draw_seed)
        tasks = self.tasks.at(index) if self.stage == "train" else self.tasks
        return tasks.sample(generator), transform_seed

    def collate(self, items: Sequence[tuple[Episode, int]]) -> MetaBatch:
        """Stack episodes into a meta-batch."""
        shapes = {tuple(part.x.shape for part in episode) for episode, _ in items}
        if len(shapes) > 1:
            raise ValueError(
                f"the episodes of one meta-batch have different shapes {sorted(shapes)}: "
                "let the tasks draw one shape, or set meta_batch_size=1."
            )
        episodes = default_collate([episode for episode, _ in items])
        return MetaBatch(episodes, [seed for _, seed in items], self.stage)


def episode_seeds(seed: int, stage: str, index: int) -> tuple[int, int]:
    """Return the seeds for drawing and for transforming episode `index` of a stage."""
    sequence = np.random.SeedSequence([seed, STAGES.index(stage), index])
    draw, transform = sequence.generate_state(2, np.uint64)
    return int(draw), int(transform)
