"""Convolution, batch norm, ReLU and max-pool as one operation, exact to the second derivative."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .convolution import Geometry, convolve
from .patches import Moments, Patches, PatchProduct, by_group_of
from .pooling import (
    Pooling,
    gather,
    images_per_slice,
    mean_and_var,
    merged,
    output_size,
    pool,
    scatter,
    slices_of,
)


def conv_block(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    geometry: Geometry,
    eps: float = 1e-5,
    relu: bool = False,
    window: tuple[int, int] | None = None,
    images: int | None = None,
    derived: dict[Any, Any] | None = None,
) -> Tensor:
    """Return `max_pool(relu(batch_norm(conv(x))))`, the norm with the statistics of this batch.

    A bias of the convolution would change nothing, as the norm takes it away. The maximum may be
    taken before a monotone function, so norm and ReLU see only the pixels that the pool keeps. The
    large activations are made and used up in slices of a few images, in the cache. Can be
    differentiated twice. Where several pixels of a window are the largest, the first one counts.

    Args:
        x: Images, shape `(N, C, H, W)`; fast if channels last.
        weight: Of the convolution, shape `(K, C / groups, height, width)`.
        gamma: Weights of the norm, shape `(K,)`; None: 1.
        beta: Biases of the norm, shape `(K,)`; None: 0.
        geometry: Of the convolution.
        eps: Added to the variance.
        relu: Whether a ReLU follows the norm, before or after the pool.
        window: Height and width, in pixels, of the windows of the max-pool, which do not overlap.
            None: no pool.
        images: Number of images of a slice, for tests. None: as many as fit the cache.
        derived: Where the patches of x are kept for the next time. None: they are not.

    Raises:
        ValueError: If the channels of images and weights differ, or if each channel has only one
            value, which has no variance.
    """
    if x.shape[1] != geometry.groups * weight.shape[1]:
        raise ValueError(
            f"images have {x.shape[1]} channels, but {geometry.groups} groups with weights of "
            f"shape {tuple(weight.shape)} need {geometry.groups * weight.shape[1]}: change either."
        )
    height, width = output_size(x, weight.shape[2:], geometry)
    _check_count(len(x) * height * width, x)
    signs, alive = _signs(gamma, window)
    if signs is not None and gamma is not None:
        weight, gamma = weight * signs[:, None, None, None], gamma * signs
    by_patches = prefers_patches(x, weight, geometry)
    if images is None:
        channels = len(weight) // geometry.groups if by_patches else len(weight)
        images = images_per_slice(x, channels * height * width)
    pooling = Pooling(window, images)
    if by_patches:
        patches = _patches(
            x, weight.shape[2:], geometry, pooling, {} if derived is None else derived
        )
        w = weight.view(geometry.groups, -1, weight[0].numel()).transpose(1, 2)
        kept, chosen, gram, mean, var = patches.measure(w.detach(), alive)
        mean, var = _apply(Moments, w, mean, var, gram)
        scale, shift = _scale_and_shift(mean, var, gamma, beta, eps)
        normed = patches.normed(kept, scale.detach(), shift.detach(), relu)
        folded = torch.cat([w * by_group_of(scale, w), by_group_of(shift, w)], 1)
        result: Tensor = _apply(PatchProduct, folded, normed, chosen, relu, patches)
        return result
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    y = convolve(x, weight, geometry)
    return _normed(y, gamma, beta, eps, relu, alive, pooling)


def norm_block(
    y: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float = 1e-5,
    relu: bool = False,
    window: tuple[int, int] | None = None,
) -> Tensor:
    """Return `max_pool(relu(batch_norm(y)))`; see `conv_block`."""
    _check_count(y.numel() // y.shape[1], y)
    signs, alive = _signs(gamma, window)
    if signs is not None and gamma is not None:
        y, gamma = y * signs[:, None, None], gamma * signs
    return _normed(
        y, gamma, beta, eps, relu, alive, Pooling(window, images_per_slice(y, y[0].numel()))
    )


def _normed(
    y: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
    relu: bool,
    alive: Tensor | None,
    pooling: Pooling,
) -> Tensor:
    """Return a norm of y, a ReLU and a max-pool."""
    y = y.contiguous(memory_format=torch.channels_last)
    kept, mean, var = _apply(PooledStatistics, y, alive, pooling)
    result: Tensor = _apply(Affine, kept, *_scale_and_shift(mean, var, gamma, beta, eps), relu)
    return result


def _check_count(count: int, x: Tensor) -> None:
    """Refuse statistics of a single value a channel."""
    if count < 2:
        raise ValueError(
            f"images of shape {tuple(x.shape)} give {count} values a channel, "
            "and a batch norm needs at least 2: give it more or larger images."
        )


def _signs(
    gamma: Tensor | None, window: tuple[int, int] | None
) -> tuple[Tensor | None, Tensor | None]:
    """Return the signs with which the largest input of a window gives the largest output.

    Where gamma is negative, the input of the norm and gamma both change their sign. Where it is 0,
    all outputs are the same and the first one counts: the second tensor, shape `(K, 1, 1)`, is 0
    there and 1 elsewhere. None if no sign changes, or if there is none.
    """
    # to ask a GPU whether there are such channels would make it wait
    if gamma is None or window is None or (gamma.device.type == "cpu" and bool((gamma > 0).all())):
        return None, None
    signs = torch.where(gamma < 0, -1, 1).to(gamma)
    alive = (gamma != 0).to(gamma)[:, None, None]
    return signs, None if gamma.device.type == "cpu" and bool(alive.all()) else alive


def _patches(
    x: Tensor, kernel: Sequence[int], geometry: Geometry, pooling: Pooling, derived: dict[Any, Any]
) -> Patches:
    key = str((Patches, kernel, geometry, pooling))
    if key not in derived:
        derived[key] = Patches(x, kernel, geometry, pooling)
    patches: Patches = derived[key]
    return patches


def _apply(function: type[Function], *args: Any) -> Any:
    return function.apply(*args)  # type: ignore[no-untyped-call]  # torch gives it no types


def prefers_patches(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether a convolution is faster as a matrix product with the patches of the images.

    So it is on a CPU for the few channels of a first layer: its outputs are then cheap enough to be
    forgotten, and nobody asks for the gradient of its input.
    """
    patch, channels = weight[0].numel(), weight.shape[0] // geometry.groups
    return x.device.type == "cpu" and not x.requires_grad and patch <= channels


class PooledStatistics(Function):
    """The pixels that a max-pool keeps, and the mean and variance of all, of each channel."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, alive: Tensor | None, pooling: Pooling) -> Any:
        """Return the values."""
        kept, chosen = y.view_as(y), None
        if pooling.window is not None:
            height, width = (y.shape[2 + i] // pooling.window[i] for i in range(2))
            kept = y.new_empty(len(y), height, width, y.shape[1]).permute(0, 3, 1, 2)
            chosen = torch.empty_like(kept, dtype=torch.int64)
        stats = []
        slices = slices_of(len(y), pooling.images)
        for rows in slices:
            pool(y[rows], kept, chosen, rows, pooling.window, alive)
            stats.append(mean_and_var(y[rows]))
        mean, var = merged(stats, [len(kept[rows]) for rows in slices])
        ctx.save_for_backward(y, mean, chosen)
        ctx.pooling = pooling
        return kept, mean, var

    @staticmethod
    def backward(ctx: Any, g: Tensor, g_mean: Tensor, g_var: Tensor) -> Any:
        """Return the gradients of the inputs."""
        y, *saved = ctx.saved_tensors
        return _apply(PooledGradient, g, g_mean, g_var, y, saved, ctx.pooling), None, None


class PooledGradient(Function):
    """The gradient of `PooledStatistics`, differentiable once more."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, g_mean: Tensor, g_var: Tensor, y: Tensor, saved: Any, pooling: Pooling
    ) -> Tensor:
        """Return the values."""
        mean, chosen = saved
        count = y.numel() // y.shape[1]
        slope = g_var * (2 / count)
        offset = torch.addcmul(g_mean / count, slope, mean, value=-1)[:, None, None]
        g = g.contiguous(memory_format=torch.channels_last)
        gy = torch.empty_like(y)
        for rows in slices_of(len(y), pooling.images):
            part = gy[rows]
            scatter(g[rows], chosen, rows, pooling.window, part)
            part.addcmul_(y[rows], slope[:, None, None]).add_(offset)
        ctx.save_for_backward(slope, y, mean, chosen)
        return gy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> Any:
        """Return the gradients of the inputs."""
        slope, y, mean, chosen = ctx.saved_tensors
        u = u.contiguous(memory_format=torch.channels_last)
        count = u.numel() // u.shape[1]
        g_kept = u
        if chosen is not None:
            g_kept = torch.empty_like(chosen, dtype=u.dtype)
            gather(u, chosen, g_kept)
        u_mean = u.sum((0, 2, 3)) / count
        products = (y - mean[:, None, None]).mul_(u).sum((0, 2, 3))
        g_y = torch.addcmul((-slope * u_mean)[:, None, None], u, slope[:, None, None])
        return g_kept, u_mean, products * (2 / count), g_y, None, None


class Affine(Function):
    """`x * scale + shift` with a scale and a shift for each channel, then maybe a ReLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
        """Return the values."""
        y = torch.addcmul(shift[:, None, None], x, scale[:, None, None])
        if relu:
            y.relu_()
        ctx.save_for_backward(x, scale, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Return the gradients of the inputs."""
        x, scale, y = ctx.saved_tensors
        return *_apply(AffineGradient, g, x, scale, y), None


class AffineGradient(Function):
    """The gradients of `Affine`, differentiable once more."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, scale: Tensor, y: Tensor | None) -> Any:
        """Return the values."""
        g = g.contiguous(memory_format=torch.channels_last)
        if y is not None:
            g = torch.ops.aten.threshold_backward(g, y, 0)
        gx, g_scale, g_shift = g * scale[:, None, None], (g * x).sum((0, 2, 3)), g.sum((0, 2, 3))
        ctx.save_for_backward(g, x, scale, y)
        return gx, g_scale, g_shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, u_scale: Tensor, u_shift: Tensor) -> Any:
        """Return the gradients of the inputs."""
        g, x, scale, y = ctx.saved_tensors
        gg = torch.addcmul(u_shift[:, None, None], x, u_scale[:, None, None])
        gg.addcmul_(u, scale[:, None, None])
        if y is not None:
            gg = torch.ops.aten.threshold_backward(gg, y, 0)
        return gg, g * u_scale[:, None, None], (g * u).sum((0, 2, 3)), None


def _scale_and_shift(
    mean: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the affine map that a norm with these statistics is."""
    scale = torch.rsqrt(var + eps)
    scale = scale if gamma is None else scale * gamma
    return scale, -mean * scale if beta is None else torch.addcmul(beta, mean, scale, value=-1)
