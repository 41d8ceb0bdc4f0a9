"""Max-pools and statistics of channels-last images, a slice of a few images after another."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .convolution import Geometry

CACHE = 2**22
"""Bytes of activations in a slice: they stay in the cache, and are many enough for an operation."""

_pool_out = torch.ops.aten.max_pool2d_with_indices.out
_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward.grad_input
_norm_stats = torch.ops.aten.batch_norm_update_stats.default


class Pooling(NamedTuple):
    """How images are measured and max-pooled.

    Attributes:
        window: Height and width, in pixels, of the windows of the max-pool; they do not overlap.
            None: no pool.
        images: Number of images that are computed together.
    """

    window: tuple[int, int] | None
    images: int


def output_size(x: Tensor, kernel: Sequence[int], geometry: Geometry) -> tuple[int, int]:
    """Return height and width of what a convolution makes of images."""
    stride, padding, dilation, _ = geometry
    height, width = (
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in range(2)
    )
    return height, width


def images_per_slice(x: Tensor, elements: int) -> int:
    """Return how many images with so many elements fit the cache; all of them for 0 or on a GPU."""
    if x.device.type != "cpu" or elements == 0:
        return len(x)
    return min(len(x), max(1, CACHE // (elements * x.element_size())))


def pool(
    y: Tensor, kept: Tensor, chosen: Tensor | None, rows: slice,
    window: tuple[int, int] | None, alive: Tensor | None,
) -> None:  # fmt: skip
    """Write the largest pixel of each window; the first one in channels that are not alive."""
    if window is None or chosen is None:
        return
    upright = y if alive is None else y * alive
    sizes = list(window)
    _pool_out(upright, sizes, sizes, [0, 0], [1, 1], False, out=kept[rows], indices=chosen[rows])
    if alive is not None:
        gather(y, chosen[rows], kept[rows])


def scatter(
    g: Tensor, chosen: Tensor | None, rows: slice, window: tuple[int, int] | None, out: Tensor
) -> None:
    """Write values where the max-pool took them, and 0 elsewhere."""
    if chosen is None or window is None:
        out.copy_(g)
        return
    sizes = list(window)
    _pool_backward(g, out, sizes, sizes, [0, 0], [1, 1], False, chosen[rows], grad_input=out)


def slices_of(n: int, images: int) -> list[slice]:
    """Return the slices of n images."""
    return [slice(i, i + images) for i in range(0, n, images)]


def gather(y: Tensor, chosen: Tensor, kept: Tensor) -> None:
    """Write the pixels at the places that a max-pool chose."""
    torch.gather(y.flatten(2), 2, chosen.flatten(2), out=kept.flatten(2))


def mean_and_var(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (divided by the number) of each channel."""
    if y.device.type == "cpu":
        mean, var = _norm_stats(y, None, None, 0.0)
        return mean, var
    var, mean = torch.var_mean(y, (0, 2, 3), correction=0)
    return mean, var


def merged(
    stats: list[tuple[Tensor, Tensor]], images: list[int], groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Return mean and variance of all slices of each group (Chan et al., 1983)."""
    if len(stats) == 1:
        return stats[0]
    means, variances = (
        torch.stack(values).view(groups, len(images), -1) for values in zip(*stats, strict=True)
    )
    share = means.new_tensor(images)[:, None] / sum(images)
    mean = (share * means).sum(1)
    var = (share * (variances + (means - mean[:, None]) ** 2)).sum(1)
    return mean.flatten(), var.flatten()
