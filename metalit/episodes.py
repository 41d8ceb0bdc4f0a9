"""Samples and episodes: the two tuples that every part of metalit passes on."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor


class Samples(NamedTuple):
    """Examples with their labels.

    Attributes:
        x: Inputs of shape `(N, *features)`; `(B, N, *features)` in a meta-batch.
        y: Labels of shape `(N,)`, int64 in `[0, way)`, with -1 for "no label"; `(B, N)` in a
            meta-batch. -k with k > 1 stands for "no label, but there are k clusters" (see
            `unlabelled`). Regression targets are floats of shape `(N, d)` or `(B, N, d)`.
    """

    x: Tensor
    y: Tensor


class Episode(NamedTuple):
    """One task: the support set to learn from and the query set to be judged on.

    A meta-batch is an `Episode` too, with a leading dimension B in all four tensors.
    """

    support: Samples
    query: Samples


def stack(episodes: Sequence[Episode]) -> Episode:
    """Make a meta-batch of episodes of one shape.

    Raises:
        ValueError: If the episodes have different shapes.
    """
    shapes = {tuple(part.x.shape for part in episode) for episode in episodes}
    if len(shapes) > 1:
        raise ValueError(
            f"the episodes of one meta-batch have different shapes {sorted(shapes)}: "
            "let the tasks draw one shape, or set meta_batch_size=1."
        )
    supports, queries = zip(*episodes, strict=True)
    return Episode(*(Samples(*map(torch.stack, zip(*s, strict=True))) for s in (supports, queries)))


def each(episodes: Episode, function: Callable[[Tensor], Tensor]) -> Episode:
    """Apply a function to each of the four tensors."""
    return Episode(*(Samples(*map(function, part)) for part in episodes))


def normal_tensors(episodes: Episode) -> Episode:
    """Copy what was made in inference mode, of which no gradient can be taken."""
    return each(episodes, lambda tensor: tensor.clone() if tensor.is_inference() else tensor)


def first(episodes: Episode) -> Episode:
    """Return the first episode of a meta-batch."""
    return each(episodes, itemgetter(0))


def unlabelled(x: Tensor, n_clusters: int | None = None) -> Samples:
    """Samples without labels, of which the number of clusters may be known.

    Args:
        x: Inputs of shape `(N, *features)`.
        n_clusters: At least 2, or None if it is not known.
    """
    mark = -1 if n_clusters is None else -n_clusters
    return Samples(x, torch.full((len(x),), mark, dtype=torch.int64, device=x.device))


def given_clusters(y: Tensor) -> int | None:
    """Return the number of clusters that labels of `unlabelled` tell, None if they do not."""
    mark = int(y.min()) if y.numel() and not y.is_floating_point() else 0
    return -mark if mark < -1 else None
