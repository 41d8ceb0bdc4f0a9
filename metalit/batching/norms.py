"""Batch norm, ReLU and max-pool as one operation, with derivatives worked out by hand.

In a convolutional block these three cost as much time as the convolution, and most of it is the
reading and writing of full-size activations. A maximum may be taken before a monotone function, so
here the pool goes first, and norm and ReLU see a quarter of the pixels.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward.default


class Block(NamedTuple):
    """What follows a convolution: batch norm, and maybe ReLU and a max-pool.

    Attributes:
        eps: Added to the variance.
        relu: Whether a ReLU follows the norm.
        pool: Height and width of the windows of a max-pool without overlap and padding, or None.
    """

    eps: float
    relu: bool = False
    pool: tuple[int, int] | None = None


class NormReluPool(Function):
    """Normalises every channel by its own statistics, applies ReLU and max-pools.

    x has shape `(N, C, H, W)`, weight and bias `(C,)`. `shift` of shape `(C,)` has been added to x
    or not: the norm takes it away again, and its gradient is 0. Can be differentiated twice.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, block: Block
    ) -> Tensor:
        if x.numel() == x.shape[1]:
            raise ValueError(f"batch norm needs more than 1 value a channel, got {tuple(x.shape)}.")
        mean, var = torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)
        rstd = torch.rsqrt(var + block.eps)
        kept, indices = x, None
        if block.pool is not None and x.device.type == "cpu" and bool((weight > 0).all()):
            kept, indices = F.max_pool2d(x, block.pool, return_indices=True)
        elif block.pool is not None:
            # where the weight is negative, the largest output is that of the smallest input
            _, indices = F.max_pool2d(x * _map(weight.sign()), block.pool, return_indices=True)
            kept = _gather(x, indices)
        normed = (kept - _map(mean)) * _map(rstd)
        y = torch.addcmul(_map(bias), normed, _map(weight))
        if block.relu:
            y.relu_()
        ctx.save_for_backward(x, weight, mean, rstd, normed, y if block.relu else None, indices)
        ctx.block = block
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight, mean, rstd, normed, y, indices = ctx.saved_tensors
        if y is not None:
            g = g * (y > 0)
        saved = (mean, rstd, normed, indices)
        g_shift = torch.zeros_like(weight) if ctx.needs_input_grad[3] else None
        return *NormPoolGradient.apply(g, x, weight, saved, ctx.block), g_shift, None


class NormPoolGradient(Function):
    """Gradients of `NormReluPool` with regard to x, weight and bias, differentiable once more."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, saved: Any, block: Block) -> Any:
        mean, rstd, normed, indices = saved
        count = x.numel() // x.shape[1]
        g_bias = g.sum((0, 2, 3))
        g_weight = (g * normed).sum((0, 2, 3))
        scale = weight * rstd
        # scale · (scatter(g) - mean(g) - normed · mean(g · normed)), over all pixels
        slope = -scale * rstd * g_weight / count
        offset = -scale * g_bias / count - slope * mean
        gx = _scatter(g * _map(scale), x, indices, block)
        gx = torch.addcmul(_map(offset), x, _map(slope)).add_(gx)
        ctx.save_for_backward(g, x, weight, mean, rstd, normed, indices, g_weight, g_bias)
        ctx.block = block
        return gx, g_weight, g_bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, u_weight: Tensor, u_bias: Tensor) -> Any:
        g, x, weight, mean, rstd, normed, indices, g_weight, g_bias = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        scale = weight * rstd
        u_kept = u if indices is None else _gather(u, indices)
        sum_u = u.sum((0, 2, 3))
        sum_un = ((u * x).sum((0, 2, 3)) - mean * sum_u) * rstd  # sum of u · normed, all pixels
        # with regard to g: the derivative of the forward pass along (u, u_weight, u_bias)
        along = u_weight - scale / count * sum_un
        gg = torch.addcmul(_map(u_bias - scale / count * sum_u), normed, _map(along))
        gg.addcmul_(u_kept, _map(scale))
        inner = (g * u_kept).sum((0, 2, 3)) - (g_bias * sum_u + g_weight * sum_un) / count
        # with regard to x: through the normed values ("field") and through the scale
        field_mean = (-scale / count * g_weight * sum_u + g_bias * along) / count
        field_normed = (-scale / count * g_weight * sum_un + g_weight * along) / count
        slope = (-rstd * field_normed - weight * inner * rstd**2 / count) * rstd
        offset = -rstd * field_mean - slope * mean
        gx = torch.addcmul(_map(offset), x, _map(slope))
        gx.addcmul_(u, _map(-rstd * scale * g_weight / count))
        gx.add_(_scatter(g * _map(rstd * along), x, indices, ctx.block))
        return gg, gx, rstd * inner, None, None


def _gather(x: Tensor, indices: Tensor) -> Tensor:
    """Return the pixels that a max-pool chose, by its indices."""
    n, channels, height, width = x.shape
    rows = torch.arange(n, device=x.device)[:, None, None, None] * (height * width)
    flat = (rows + indices) * channels + torch.arange(channels, device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1).reshape(-1).take(flat)


def _scatter(g: Tensor, like: Tensor, indices: Tensor | None, block: Block) -> Tensor:
    """Put values where a max-pool took them, and 0 elsewhere."""
    if indices is None or block.pool is None:
        return g
    pool = list(block.pool)
    return _pool_backward(g, like, pool, pool, [0, 0], [1, 1], False, indices)


def _map(channels: Tensor) -> Tensor:
    """Return one number a channel in a shape that broadcasts over pixels."""
    return channels[:, None, None]
