"""Convolutions that can be differentiated any number of times, each time as fast as the first."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

_convolution_backward = torch.ops.aten.convolution_backward.default


class Geometry(NamedTuple):
    """Stride, padding and dilation of a convolution over two dimensions, and its groups."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


class Convolution(Function):
    """The convolution of x with w.

    With `InputGradient` and `WeightGradient` it is closed under differentiation. torch's own
    second derivative takes the gradient of a weight for a convolution with a kernel as large as
    the image, which is many times slower.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
        """Return the convolution."""
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        stride, padding, dilation, groups = geometry
        return torch.convolution(x, w, None, stride, padding, dilation, False, [0, 0], groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Return the gradients of x and w."""
        x, w = ctx.saved_tensors
        need_x, need_w = ctx.needs_input_grad[:2]
        g_x = _input_gradient(g, w, x, ctx.geometry) if need_x else None
        g_w = _weight_gradient(g, x, w, ctx.geometry) if need_w else None
        return g_x, g_w, None


class InputGradient(Function):
    """The gradient of a convolution with regard to its input, of which `like` has the shape."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, w: Tensor, like: Tensor, geometry: Geometry) -> Tensor:
        """Return the gradient."""
        ctx.save_for_backward(g, w)
        ctx.geometry = geometry
        gradient: Tensor = _gradients(g, like, w, geometry, [True, False, False])[0]
        return gradient

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        """Return the gradients of the two tensors of which this is a product."""
        g, w = ctx.saved_tensors
        need_g, need_w = ctx.needs_input_grad[:2]
        g_g = convolve(u, w, ctx.geometry) if need_g else None
        g_w = _weight_gradient(g, u, w, ctx.geometry) if need_w else None
        return g_g, g_w, None, None


class WeightGradient(Function):
    """The gradient of a convolution with regard to its weight, of which `like` has the shape."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, like: Tensor, geometry: Geometry) -> Tensor:
        """Return the gradient."""
        ctx.save_for_backward(g, x)
        ctx.geometry = geometry
        gradient: Tensor = _gradients(g, x, like, geometry, [False, True, False])[1]
        return gradient

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        """Return the gradients of the two tensors of which this is a product."""
        g, x = ctx.saved_tensors
        need_g, need_x = ctx.needs_input_grad[:2]
        g_g = convolve(x, u, ctx.geometry) if need_g else None
        g_x = _input_gradient(g, u, x, ctx.geometry) if need_x else None
        return g_g, g_x, None, None


def _gradients(g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, mask: list[bool]) -> Any:
    stride, padding, dilation, groups = geometry
    return _convolution_backward(
        g, x, w, None, stride, padding, dilation, False, [0, 0], groups, mask
    )


convolve: Callable[..., Tensor] = Convolution.apply
_input_gradient: Callable[..., Tensor] = InputGradient.apply
_weight_gradient: Callable[..., Tensor] = WeightGradient.apply
