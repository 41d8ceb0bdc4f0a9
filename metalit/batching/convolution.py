"""Convolutions and what follows them, for all tasks at once: tasks become groups of channels."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from .norms import Block, NormReluPool
from .task_tensor import NotBatchableError, Pending, TaskTensor, named, rule, through_vmap
from .rules import changed, pointwise

_backward = torch.ops.aten.convolution_backward.default


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
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        stride, padding, dilation, groups = geometry
        return torch.convolution(x, w, None, stride, padding, dilation, False, [0, 0], groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensors
        need_x, need_w = ctx.needs_input_grad[:2]
        g_x = InputGradient.apply(g, w, x, ctx.geometry) if need_x else None
        g_w = WeightGradient.apply(g, x, w, ctx.geometry) if need_w else None
        return g_x, g_w, None


class InputGradient(Function):
    """The gradient of a convolution with regard to its input, of which `like` has the shape."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, w: Tensor, like: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(g, w)
        ctx.geometry = geometry
        return _gradients(g, like, w, geometry, [True, False, False])[0]

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        g, w = ctx.saved_tensors
        need_g, need_w = ctx.needs_input_grad[:2]
        g_g = Convolution.apply(u, w, ctx.geometry) if need_g else None
        g_w = WeightGradient.apply(g, u, w, ctx.geometry) if need_w else None
        return g_g, g_w, None, None


class WeightGradient(Function):
    """The gradient of a convolution with regard to its weight, of which `like` has the shape."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, like: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.geometry = geometry
        return _gradients(g, x, like, geometry, [False, True, False])[1]

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        g, x = ctx.saved_tensors
        need_g, need_x = ctx.needs_input_grad[:2]
        g_g = Convolution.apply(x, u, ctx.geometry) if need_g else None
        g_x = InputGradient.apply(g, u, x, ctx.geometry) if need_x else None
        return g_g, g_x, None, None


def _gradients(g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, mask: list[bool]) -> Any:
    stride, padding, dilation, groups = geometry
    return _backward(g, x, w, None, stride, padding, dilation, False, [0, 0], groups, mask)


class ConvBlock(Pending):
    """The bias of a convolution, and what may follow: batch norm, ReLU and max-pool.

    Args:
        y: What the convolution gave without its bias, of shape `(N, T * C, H, W)`.
        tasks: Number of tasks, T.
        bias: Bias of the convolution, of shape `(T * C,)`, if it has one.
        affine: Weight and bias of the norm, each of shape `(T * C,)`.
        block: What follows; None if it is the bias alone.
    """

    def __init__(
        self,
        y: Tensor,
        tasks: int,
        bias: Tensor | None,
        affine: tuple[Tensor, Tensor] | None = None,
        block: Block | None = None,
    ) -> None:
        self.y, self.tasks, self.bias, self.affine, self.block = y, tasks, bias, affine, block
        n, channels, height, width = y.shape
        if block is not None and block.pool is not None:
            height, width = height // block.pool[0], width // block.pool[1]
        self.shape = torch.Size((tasks, n, channels // tasks, height, width))
        self.dtype, self.device = y.dtype, y.device

    def compute(self) -> Tensor:
        """Return the result, of shape `(T, N, C, H, W)`."""
        if self.affine is not None:
            y = NormReluPool.apply(self.y, *self.affine, self.bias, self.block)
        else:
            y = self.y if self.bias is None else self.y + self.bias[:, None, None]
        return y.unflatten(1, (self.tasks, -1)).movedim(1, 0)

    def then(self, **changes: Any) -> ConvBlock:
        """Return the block with a ReLU or max-pool at its end."""
        assert self.block is not None
        block = self.block._replace(**changes)
        return ConvBlock(self.y, self.tasks, self.bias, self.affine, block)


def tasks_as_channels(value: Tensor) -> Tensor:
    """Return `(T, N, C, H, W)` as `(N, T * C, H, W)` with channels last in memory."""
    tasks, n, channels, height, width = value.shape
    # nothing is copied where the memory is in this order already; the flat view makes strides of
    # dimensions of size 1 say so too, by which torch chooses between its convolutions
    pixels = value.permute(1, 3, 4, 0, 2).reshape(-1)
    return pixels.view(n, height, width, tasks * channels).permute(0, 3, 1, 2)


def _flat(tensor: Tensor, tasks: int) -> Tensor:
    """Return one number a channel for all tasks, of shape `(T * C,)`."""
    return tensor.value.flatten() if isinstance(tensor, TaskTensor) else tensor.repeat(tasks)


def _pair(value: Any) -> list[int]:
    pair = [value] if isinstance(value, int) else list(value)
    return pair * 2 if len(pair) == 1 else pair


@rule(F.conv2d)
def _conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    if padding == "valid":
        padding = 0
    if input.dim() != 4 or isinstance(padding, str):
        args = (input, weight, bias, stride, padding, dilation, groups)
        return through_vmap(F.conv2d, args, {})
    geometry = Geometry(_pair(stride), _pair(padding), _pair(dilation), groups)
    if not isinstance(weight, TaskTensor):  # shared by the tasks, of which the images are one set
        tasks, images = input.value.shape[:2]
        y = Convolution.apply(input.value.flatten(0, 1), weight, geometry)
        y = TaskTensor(y.unflatten(0, (tasks, images)))
        return y if bias is None else y + bias[:, None, None]
    tasks = len(weight.value)
    x = input.value if isinstance(input, TaskTensor) else input.expand(tasks, *input.shape)
    w = weight.value.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    y = Convolution.apply(tasks_as_channels(x), w, geometry._replace(groups=tasks * groups))
    return TaskTensor(ConvBlock(y, tasks, None if bias is None else _flat(bias, tasks)))


@rule(F.batch_norm)
def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    if not training:
        args = (input, running_mean, running_var, weight, bias, training, momentum, eps)
        return through_vmap(F.batch_norm, args, {})
    if running_mean is not None or not isinstance(input, TaskTensor) or input.dim() > 4:
        raise NotBatchableError("batch norm keeps running statistics")
    waiting = input.pending
    if isinstance(waiting, ConvBlock) and waiting.block is None:
        y, tasks, shift = waiting.y, waiting.tasks, waiting.bias
    else:
        value = input.value.reshape(*input.value.shape, *[1] * (4 - input.dim()))
        y, tasks, shift = tasks_as_channels(value), len(value), None
    channels = y.shape[1] // tasks
    weight = y.new_ones(channels) if weight is None else weight
    bias = y.new_zeros(channels) if bias is None else bias
    affine = _flat(weight, tasks), _flat(bias, tasks)
    result = TaskTensor(ConvBlock(y, tasks, shift, affine, Block(eps)))
    return result if input.dim() == 4 else TaskTensor(result.value.flatten(input.dim()))


@rule(*named("relu"))
def _relu(input: TaskTensor, inplace: bool = False) -> TaskTensor:
    waiting = input.pending
    if not isinstance(waiting, ConvBlock) or waiting.block is None:
        return pointwise(F.relu, input, inplace=inplace)  # type: ignore[no-any-return]
    result = waiting.then(relu=True)
    return changed(input, result) if inplace else TaskTensor(result)


@rule(torch.relu_, torch.Tensor.relu_)
def _relu_in_place(input: TaskTensor) -> TaskTensor:
    return _relu(input, inplace=True)


@rule(F.max_pool2d)
def _max_pool2d(
    input: TaskTensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    args = (kernel_size, stride, padding, dilation, ceil_mode)
    if input.dim() != 4 or return_indices:
        return through_vmap(F.max_pool2d, (input, *args, return_indices), {})
    kernel, waiting = _pair(kernel_size), input.pending
    plain = kernel == _pair(stride or kernel) and [*_pair(padding), *_pair(dilation)] == [
        0,
        0,
        1,
        1,
    ]
    if isinstance(waiting, ConvBlock) and waiting.block is not None and plain and not ceil_mode:
        if waiting.block.pool is None and all(waiting.shape[-2 + d] >= kernel[d] for d in (0, 1)):
            return TaskTensor(waiting.then(pool=tuple(kernel)))
    return _by_channel(F.max_pool2d, input, *args)


def _by_channel(func: Any, input: TaskTensor, *args: Any, **kwargs: Any) -> Any:
    """Apply a function that treats every channel of an image by itself."""
    if input.dim() != 4:
        return through_vmap(func, (input, *args), kwargs)
    y = func(tasks_as_channels(input.value), *args, **kwargs)
    return TaskTensor(y.unflatten(1, (len(input.value), -1)).movedim(1, 0))


for _pool in (F.avg_pool2d, F.adaptive_avg_pool2d):
    rule(_pool)(partial(_by_channel, _pool))
