"""Samples and episodes: the two tuples that every part of metalit passes on."""

from typing import NamedTuple

from torch import Tensor


class Samples(NamedTuple):
    """Examples with their labels.

    Attributes:
        x: Inputs of shape `(N, *features)`; `(B, N, *features)` in a meta-batch.
        y: Labels of shape `(N,)`, int64 in `[0, way)`, with -1 for "no label"; `(B, N)` in a
            meta-batch. Regression targets are floats of shape `(N, d)` or `(B, N, d)`.
    """

    x: Tensor
    y: Tensor


class Episode(NamedTuple):
    """One task: the support set to learn from and the query set to be judged on.

    A meta-batch is an `Episode` too, with a leading dimension B in all four tensors.
    """

    support: Samples
    query: Samples
