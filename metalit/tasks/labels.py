"""Episodes from labelled data."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ..episodes import Episode, first
from .base import TaskDistribution
from .classes import ClassIndex, check_data, check_sizes, class_episodes, no_data


class LabelTasks(TaskDistribution):
    """N-way K-shot classification from true labels (Vinyals et al., 2016).

    An episode draws `way` classes, and of each `shot` support and `query_shot` other query
    samples. The classes are labelled 0 to way - 1 in the order in which they were drawn, so that
    a label means nothing beyond its episode. Unsupervised methods are evaluated with it; training
    with it is their supervised upper line.

    Args:
        way: Classes per episode.
        shot: Support samples per class.
        query_shot: Query samples per class.

    Raises:
        ValueError: If a size is smaller than 1.

    Example:
        >>> x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 6
        >>> tasks = LabelTasks(way=5, shot=1, query_shot=3).fit(x, y)
        >>> episode = tasks.sample(torch.Generator().manual_seed(0))
        >>> episode.support.x.shape, episode.query.y.shape
        (torch.Size([5, 1, 8, 8]), torch.Size([15]))

    References:
        Matching Networks for One Shot Learning, https://arxiv.org/abs/1606.04080
    """

    def __init__(self, way: int = 5, shot: int = 1, query_shot: int = 15) -> None:
        check_sizes(way, shot, query_shot)
        self.way = way
        self.shot = shot
        self.query_shot = query_shot
        self._data: tuple[Tensor, ClassIndex] | None = None

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Sort the samples by class.

        Args:
            x: Samples of shape `(N, *features)`, float32, or uint8 images of 0 to 255.
            y: Labels of shape `(N,)`, int64; samples with a negative label are left out.

        Raises:
            ValueError: If there are no labels, fewer classes than `way`, or a class with fewer
                than shot + query_shot samples.
        """
        check_data(x, y)
        if y is None or not bool((y >= 0).any()):
            raise ValueError(
                "LabelTasks got no labels but draws its classes from them: give labels, or use "
                "ClusterTasks or AugmentationTasks."
            )
        classes = ClassIndex.from_labels(y)
        if len(classes) < self.way:
            raise ValueError(
                f"the data have {len(classes)} classes but way = {self.way}: lower way or give "
                "more classes."
            )
        smallest, needed = int(classes.counts.argmin()), self.shot + self.query_shot
        if int(classes.counts[smallest]) < needed:
            raise ValueError(
                f"class {classes.names[smallest]} has {int(classes.counts[smallest])} samples but "
                f"shot + query_shot = {needed}: lower query_shot or drop the class."
            )
        self._data = x, classes
        return self

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw one episode; x and y in class-major order.

        Raises:
            RuntimeError: If `fit` was not called.
        """
        return first(self.sample_batch([generator]))

    def sample_batch(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw the samples of each episode, and look all of them up at once."""
        if self._data is None:
            raise no_data(self)
        x, classes = self._data
        indices = classes.draw(self.way, self.shot + self.query_shot, generators)
        return class_episodes(x, indices, self.shot)
