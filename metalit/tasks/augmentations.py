"""Episodes from single unlabelled images and their augmented copies."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ..augmentations import Augmentation
from ..episodes import Episode, Samples, first
from .base import TaskDistribution
from .classes import check_data, check_sizes, class_labels, draw_distinct, no_data, to_float


class AugmentationTasks(TaskDistribution):
    """UMTRA: every image is a class, known by its augmented copies (Khodadadeh et al., 2019).

    An episode draws `way` random images, which most likely belong to different classes. The
    support set is the images themselves, the query set augmented copies of them; labels are never
    looked at. With many classes hidden in the data and a small `way`, two images of one class
    rarely meet.

    Differs from the paper, which has one support and one query image a class: with `shot` above 1
    the image is followed by shot - 1 augmented copies, and `query_shot` may be above 1.

    Args:
        way: Images, and so classes, per episode.
        shot: Support samples per class: the image and shot - 1 augmented copies.
        query_shot: Query samples per class, all augmented copies.
        augmentation: Changes how an image looks but not what it shows. This choice decides what
            is learned: the network becomes blind to what the augmentation changes.

    Raises:
        ValueError: If a size is smaller than 1.

    Example:
        >>> from metalit.augmentations import Affine
        >>> tasks = AugmentationTasks(5, 1, 1, Affine(degrees=20)).fit(torch.rand(60, 1, 8, 8))
        >>> episode = tasks.sample(torch.Generator().manual_seed(0))
        >>> episode.support.x.shape
        torch.Size([5, 1, 8, 8])

    References:
        Unsupervised Meta-Learning for Few-Shot Image Classification,
        https://arxiv.org/abs/1811.11819
    """

    def __init__(self, way: int, shot: int, query_shot: int, augmentation: Augmentation) -> None:
        check_sizes(way, shot, query_shot)
        self.way = way
        self.shot = shot
        self.query_shot = query_shot
        self.augmentation = augmentation
        self._x: Tensor | None = None

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Keep the samples.

        Args:
            x: Images of shape `(N, C, H, W)`, float32 of 0 to 1, or uint8 of 0 to 255.
            y: Ignored.

        Raises:
            ValueError: If there are fewer samples than `way`.
        """
        check_data(x, None)
        if len(x) < self.way:
            raise ValueError(
                f"the data have {len(x)} samples but way = {self.way}, and each class of an "
                "episode is one sample: lower way or give more samples."
            )
        self._x = x
        return self

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw the images of one episode; the copies all look alike until `transform`.

        Raises:
            RuntimeError: If `fit` was not called.
        """
        return first(self.sample_batch([generator]))

    def sample_batch(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw the images of each episode, and look all of them up at once."""
        if self._x is None:
            raise no_data(self)
        drawn = draw_distinct(len(self._x), self.way, generators)
        images = to_float(self._x.index_select(0, drawn.flatten()))
        images = images.view(*drawn.shape, *images.shape[1:])
        return Episode(
            *(
                Samples(
                    images.repeat_interleave(size, 1),
                    class_labels(len(drawn), self.way, size),
                )
                for size in (self.shot, self.query_shot)
            )
        )

    def transform(self, episodes: Episode, generators: Sequence[torch.Generator]) -> Episode:
        """Augment all but the first support sample of each class, in one call for both sets."""
        (support, support_y), (query, query_y) = episodes
        batch, features = len(support), support.shape[2:]
        by_class = support.reshape(batch, self.way, self.shot, *features)
        copies = by_class[:, :, 1:].flatten(1, 2)
        augmented = self.augmentation(torch.cat([copies, query], 1), generators)
        copies, query = augmented.split([copies.shape[1], query.shape[1]], 1)
        copies = copies.reshape(batch, self.way, self.shot - 1, *features)
        support = torch.cat([by_class[:, :, :1], copies], 2).flatten(1, 2)
        return Episode(Samples(support, support_y), Samples(query, query_y))
