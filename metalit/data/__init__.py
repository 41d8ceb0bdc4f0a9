"""Episodic data: episodes by number, and the data module that yields them in meta-batches."""

from .datamodule import EpisodeDataModule
from .episode_dataset import EpisodeDataset, MetaBatch
from .image_patches import ImagePatches
from .sampler import MetaBatchSampler
from .seeds import episode_seeds
from .support_query import SupportQuery

__all__ = [
    "EpisodeDataModule",
    "EpisodeDataset",
    "ImagePatches",
    "MetaBatch",
    "MetaBatchSampler",
    "SupportQuery",
    "episode_seeds",
]
