"""What the tasks made from a data set share: its checks, and drawing classes and members."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ..episodes import Episode, Samples


def to_float(x: Tensor) -> Tensor:
    """Turn uint8 images of 0 to 255 into float32 of 0 to 1, and anything else into float32."""
    return x.float() / 255 if x.dtype == torch.uint8 else x.float()


def check_sizes(way: int, shot: int, query_shot: int) -> None:
    """Raise unless the sizes describe an episode."""
    if min(way, shot, query_shot) < 1:
        raise ValueError(
            f"way={way}, shot={shot}, query_shot={query_shot} but each must be at least 1: "
            "raise the smallest."
        )


def check_data(x: Tensor, y: Tensor | None) -> None:
    """Raise unless x has finite values, and y, if given, one label a sample."""
    if y is not None and y.shape != x.shape[:1]:
        raise ValueError(
            f"y has shape {tuple(y.shape)} but x has {len(x)} samples: give one label a sample."
        )
    if x.is_floating_point():
        bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
        if bad:
            raise ValueError(
                f"{bad} of {len(x)} samples hold NaN or infinite values but all must be finite: "
                "drop or fill them."
            )


def no_data(tasks: object) -> RuntimeError:
    """Return the error of task distributions that are sampled before they were fitted."""
    return RuntimeError(
        f"{type(tasks).__name__} has no data: call fit(x, y) or give the data module a dataset."
    )


def draw_distinct(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw `count` different numbers in `[0, size)`, in random order, int64 of shape `(count,)`."""
    if count * count > size:
        return torch.randperm(size, generator=generator)[:count]
    while True:  # faster than permuting a large set, and a repeat is rarer than one in two
        drawn = torch.randint(size, (count,), generator=generator)
        if len(set(drawn.tolist())) == count:
            return drawn


def class_labels(way: int, size: int) -> Tensor:
    """Labels of `way` classes of `size` samples in class-major order, int64, `(way * size,)`."""
    return torch.arange(way).repeat_interleave(size)


class ClassIndex:
    """Which samples belong to which class, laid out so that an episode is a few tensor calls.

    Args:
        names: Names of the classes, in the order of the rows of `counts`.
        counts: Number of members of each class, int64 of shape `(C,)`.
        members: Indices of the samples, class by class, int64 of shape `(counts.sum(),)`.
    """

    def __init__(self, names: Sequence[int], counts: Tensor, members: Tensor) -> None:
        self.names = list(names)
        self.counts = counts
        self.members = members
        self.starts = counts.cumsum(0) - counts

    @classmethod
    def from_labels(cls, labels: Tensor) -> Self:
        """Sort samples by label, `(N,)` of integers; negative ones mean "no class"."""
        members = torch.argsort(labels, stable=True)
        members = members[labels[members] >= 0]
        names, counts = torch.unique_consecutive(labels[members], return_counts=True)
        return cls(names.tolist(), counts, members)

    def __len__(self) -> int:
        return len(self.names)

    def at_least(self, size: int) -> Self:
        """Return an index of only the classes that have at least `size` members."""
        large = self.counts >= size
        names = [name for name, kept in zip(self.names, large.tolist(), strict=True) if kept]
        members = self.members[large.repeat_interleave(self.counts)]
        return type(self)(names, self.counts[large], members)

    def draw(self, way: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw `way` different classes and `size` different members of each.

        Returns:
            Indices of samples, int64 of shape `(way, size)`, all orders equally likely.
        """
        classes = draw_distinct(len(self), way, generator)
        counts = self.counts[classes].unsqueeze(1)  # [way, 1]
        # the members with the smallest of random keys; keys beyond a class's members never win
        keys = torch.rand(way, int(counts.max()), generator=generator)
        keys.masked_fill_(torch.arange(keys.shape[1]) >= counts, 2.0)
        places = keys.topk(size, dim=1, largest=False).indices
        return self.members[self.starts[classes].unsqueeze(1) + places]


def class_episode(x: Tensor, indices: Tensor, shot: int) -> Episode:
    """Build an episode from drawn members: the first `shot` of a class support, the rest query.

    Args:
        x: All samples, of shape `(N, *features)`.
        indices: Indices into x, of shape `(way, shot + query_shot)`; row w becomes class w.
        shot: Support samples per class.
    """
    way, size = indices.shape
    order = torch.cat([indices[:, :shot].flatten(), indices[:, shot:].flatten()])
    drawn = to_float(x.index_select(0, order))
    return Episode(
        Samples(drawn[: way * shot], class_labels(way, shot)),
        Samples(drawn[way * shot :], class_labels(way, size - shot)),
    )
