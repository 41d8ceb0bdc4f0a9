"""What the tasks made from a data set share: its checks, and drawing classes and members."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..episodes import Episode, Samples

_TRIES = 100  # each has a chance of 0.6 or more


def to_float(x: Tensor) -> Tensor:
    """Turn uint8 images of 0 to 255 into float32 of 0 to 1, and anything else into float32."""
    return x.float().div_(255) if x.dtype == torch.uint8 else x.float()


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


class NoDataError(ValueError, RuntimeError):
    """A task distribution that was sampled before it was fitted."""


def no_data(tasks: object) -> NoDataError:
    """Return the error of task distributions that are sampled before they were fitted."""
    return NoDataError(
        f"{type(tasks).__name__} has no data: call fit(x, y) or give the data module a dataset."
    )


def draw_distinct(size: int, count: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw `count` different numbers in `[0, size)` from each of B generators, in random order.

    Returns:
        Numbers, int64 of shape `(B, count)`.
    """
    if count * count > size:
        return torch.stack([torch.randperm(size, generator=each) for each in generators])[:, :count]
    return torch.stack([_draw_sparse(size, count, each) for each in generators])


def _draw_sparse(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Faster than permuting a large set; a repeat, at which all is drawn anew, is rare."""
    for _ in range(_TRIES):
        drawn = torch.randint(size, (count,), generator=generator)
        if len(set(drawn.tolist())) == count:
            return drawn
    return torch.randperm(size, generator=generator)[:count]


def smallest(keys: Tensor, size: int) -> Tensor:
    """Return what `keys.topk(size, largest=False).indices` does, three times as fast.

    Args:
        keys: Numbers of shape `(..., K)`.
        size: In `[1, K]`.
    """
    order = torch.from_numpy(np.argsort(keys.numpy(), axis=-1)[..., : size + 1])
    found = keys.gather(-1, order)
    if bool((found[..., 1:] == found[..., :-1]).any()):  # which of equals is smaller, topk decides
        return keys.topk(size, largest=False).indices
    return order[..., :size]


def class_labels(batch: int, way: int, size: int) -> Tensor:
    """Labels of `way` classes of `size` samples in class-major order, int64, `(B, way * size)`."""
    labels = torch.arange(way).view(1, way, 1).expand(batch, way, size)
    return labels.contiguous().view(batch, way * size)


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

    def draw(self, way: int, size: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Draw `way` different classes and `size` different members of each, for B episodes.

        Args:
            way: Classes.
            size: Members of each class.
            generators: B generators, one an episode, which depends on no other.

        Returns:
            Indices of samples, int64 of shape `(B, way, size)`, all orders equally likely.
        """
        classes = draw_distinct(len(self), way, generators)
        counts = self.counts[classes].unsqueeze(2)  # [B, way, 1]
        widths = counts.amax((1, 2)).tolist()
        keys = [
            torch.rand(way, width, generator=each)
            for width, each in zip(widths, generators, strict=True)
        ]
        places = torch.empty(len(keys), way, size, dtype=torch.int64)
        for width in set(widths):  # one, where all classes have as many members
            rows = [row for row, its in enumerate(widths) if its == width]
            wide = torch.stack([keys[row] for row in rows])
            # the members with the smallest of random keys; keys beyond a class's members never win
            wide.masked_fill_(torch.arange(width) >= counts[rows], 2.0)
            places[rows] = smallest(wide, size)
        return self.members[self.starts[classes].unsqueeze(2) + places]


def class_episodes(x: Tensor, indices: Tensor, shot: int) -> Episode:
    """Build a meta-batch from drawn members: the first `shot` of a class support, the rest query.

    Args:
        x: All samples, of shape `(N, *features)`.
        indices: Indices into x, of shape `(B, way, shot + query_shot)`; row w becomes class w.
        shot: Support samples per class.
    """
    return Episode(*(_look_up(x, part) for part in (indices[..., :shot], indices[..., shot:])))


def _look_up(x: Tensor, indices: Tensor) -> Samples:
    """The samples of indices `(B, way, size)` in class-major order, labelled by row."""
    batch, way, size = indices.shape
    rows = to_float(x.index_select(0, indices.flatten()))
    return Samples(rows.view(batch, way * size, *x.shape[1:]), class_labels(batch, way, size))
