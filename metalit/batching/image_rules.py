"""Rules for networks of images: tasks become groups of channels, and layers wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from .conv_block import conv_block, norm_block
from .convolution import Geometry, convolve
from .pooling import output_size
from .rules import changed, pointwise
from .task_batch import is_recording
from .task_tensor import NotBatchableError, Pending, TaskTensor, named, rule, through_vmap


class Block(Pending):
    """A convolution, batch norm, ReLU and max-pool, or some of them, that wait for each other.

    Args:
        x: Images of all tasks, of shape `(N, T * C, H, W)`.
        tasks: Number of tasks, T.
        conv: Weight of the convolution, with the tasks as groups, and its geometry; None if the
            block begins with the norm.
        bias: Bias of the convolution, of shape `(T * K,)`.
        norm: Weight, bias and epsilon of the batch norm.
        relu: Whether a ReLU follows the norm.
        window: Height and width of the windows of a max-pool that follows the norm, without
            overlap and padding.
        derived: What is known of x alone; see `TaskTensor`.
    """

    def __init__(
        self,
        x: Tensor,
        tasks: int,
        conv: tuple[Tensor, Geometry] | None,
        bias: Tensor | None = None,
        norm: tuple[Tensor | None, Tensor | None, float] | None = None,
        relu: bool = False,
        window: tuple[int, int] | None = None,
        derived: dict[Any, Any] | None = None,
    ) -> None:
        super().__init__()
        self.x, self.tasks, self.conv, self.bias = x, tasks, conv, bias
        self.norm, self.relu, self.window, self.derived = norm, relu, window, derived
        channels, (height, width) = x.shape[1], x.shape[2:]
        if conv is not None:
            weight, geometry = conv
            channels, (height, width) = len(weight), output_size(x, weight.shape[2:], geometry)
        if window is not None:
            height, width = height // window[0], width // window[1]
        self.shape = torch.Size((tasks, len(x), channels // tasks, height, width))
        self.dtype, self.device = x.dtype, x.device

    def then(self, **changes: Any) -> TaskTensor:
        """Return the block with something more at its end."""
        parts = {
            name: getattr(self, name)
            for name in ("x", "tasks", "conv", "bias", "norm", "relu", "window", "derived")
        }
        return TaskTensor(Block(**{**parts, **changes}))

    def compute(self) -> Tensor:
        """Return the result, of shape `(T, N, C, H, W)`."""
        if self.norm is None or is_recording():
            y = self._separately()
        elif self.conv is None:
            y = norm_block(self.x, *self.norm, self.relu, self.window)
        else:
            y = conv_block(self.x, self.conv[0], self.norm[0], self.norm[1], self.conv[1],
                           self.norm[2], self.relu, self.window, derived=self.derived)  # fmt: skip
            if self.bias is not None:
                y = _without_effect(y, self.bias)  # the norm takes it away
        return _by_task(y.to(self.dtype), self.tasks)

    def _separately(self) -> Tensor:
        """Return the result of one operation after another, which a compiler may fuse."""
        y = self.x
        if self.conv is not None:
            x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (y, self.conv[0]))
            y = convolve(x, weight, self.conv[1])
            y = y if self.bias is None else y + self.bias[:, None, None]
        if self.norm is not None:
            gamma, beta, eps = self.norm
            y = F.batch_norm(y, None, None, gamma, beta, training=True, eps=eps)
        y = torch.relu(y) if self.relu else y
        return y if self.window is None else F.max_pool2d(y, self.window)


class WithoutEffect(Function):
    """Returns its first input; the gradient of the second is 0."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        """Return the first input."""
        ctx.save_for_backward(bias)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Return the gradient and 0."""
        return g, torch.zeros_like(ctx.saved_tensors[0])


_without_effect: Callable[..., Tensor] = WithoutEffect.apply


def tasks_as_channels(value: Tensor) -> Tensor:
    """Return `(T, N, C, H, W)` as `(N, T * C, H, W)` with channels last in memory."""
    tasks, n, channels, height, width = value.shape
    # nothing is copied where the memory is in this order already; the flat view makes strides of
    # dimensions of size 1 say so too, by which torch chooses between its convolutions
    pixels = value.permute(1, 3, 4, 0, 2).reshape(-1)
    return pixels.view(n, height, width, tasks * channels).permute(0, 3, 1, 2)


def _by_task(folded: Tensor, tasks: int) -> Tensor:
    """Return `(N, T * C, H, W)` as `(T, N, C, H, W)`."""
    n, _, height, width = folded.shape
    return folded.view(n, tasks, -1, height, width).movedim(1, 0)


def _flat(tensor: Tensor | None, tasks: int) -> Tensor | None:
    """Return one number a channel for all tasks, of shape `(T * C,)`."""
    if isinstance(tensor, TaskTensor):
        return tensor.value.flatten()
    return None if tensor is None else tensor.repeat(tasks)


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
    if input.dim() != 4 or isinstance(padding, str):
        args = (input, weight, bias, stride, padding, dilation, groups)
        return through_vmap(F.conv2d, args, {})
    geometry = Geometry(_pair(stride), _pair(padding), _pair(dilation), groups)
    if not isinstance(weight, TaskTensor):  # shared by the tasks
        if input.device.type != "cpu":
            return convolve_all(input, weight, bias, geometry)
        # a block with norm and pool, in which every task has its own weights, is faster here
        weight = TaskTensor(weight.expand(len(input.value), *weight.shape))
    tasks, derived = len(weight.value), None
    if not isinstance(input, TaskTensor):
        images = tasks_as_channels(input.expand(tasks, *input.shape))
    elif input.value.requires_grad:  # another graph may be asked for the next time
        images = tasks_as_channels(input.value)
    else:
        derived = input.derived
        if tasks_as_channels not in derived:
            derived[tasks_as_channels] = tasks_as_channels(input.value)
        images = derived[tasks_as_channels]
    x, w = _as_autocast(images, weight.value.flatten(0, 1))
    conv = w, geometry._replace(groups=tasks * groups)
    flat = _flat(bias, tasks)
    flat = None if flat is None else flat.to(x.dtype)
    return TaskTensor(Block(x, tasks, conv, flat, derived=derived))


def convolve_all(input: TaskTensor, weight: Tensor, bias: Any, geometry: Geometry) -> Any:
    """Return the convolution of the images of all tasks with weights that they share."""
    x, w = _as_autocast(input.value.flatten(0, 1), weight)
    folded = convolve(x, w, geometry)
    y = TaskTensor(folded.view(*input.value.shape[:2], *folded.shape[1:]))
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def _as_autocast(*tensors: Tensor) -> list[Tensor]:
    """Cast as autocast would, which cannot look into operations of our own."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [t.to(dtype) if t.dtype == torch.float32 else t for t in tensors]


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
    if running_mean is not None:
        raise NotBatchableError("batch norm keeps running statistics")
    if not isinstance(input, TaskTensor) or input.dim() > 4:
        raise NotBatchableError("batch norm of volumes, or of what all tasks share")
    waiting = input.pending
    full = input.dtype in (torch.float32, torch.float64)  # statistics of less lose digits
    if full and isinstance(waiting, Block) and waiting.norm is None:
        return waiting.then(norm=(_flat(weight, waiting.tasks), _flat(bias, waiting.tasks), eps))
    value = input.value.reshape(*input.value.shape, *[1] * (4 - input.dim()))
    norm = _flat(weight, len(value)), _flat(bias, len(value)), eps
    result = TaskTensor(Block(tasks_as_channels(value), len(value), None, norm=norm))
    return result if input.dim() == 4 else TaskTensor(result.value.flatten(input.dim()))


@rule(*named("relu"))
def _relu(input: TaskTensor, inplace: bool = False) -> TaskTensor:
    waiting = input.pending
    if not isinstance(waiting, Block) or waiting.norm is None:
        result: TaskTensor = pointwise(torch.relu, input)
    else:
        result = waiting.then(relu=True)
    return changed(input, result) if inplace else result


@rule(*named("relu_"))
def _relu_in_place(input: TaskTensor) -> Any:
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
    if return_indices:
        return through_vmap(F.max_pool2d, (input, *args, return_indices), {})
    waiting, kernel = input.pending, _pair(kernel_size)
    plain = _pair(stride or kernel) == kernel and not ceil_mode
    plain &= [*_pair(padding), *_pair(dilation)] == [0, 0, 1, 1]
    if plain and isinstance(waiting, Block) and waiting.norm is not None and not waiting.window:
        height, width = kernel
        if waiting.shape[-2] >= height and waiting.shape[-1] >= width:
            return waiting.then(window=(height, width))
    return _by_channel(F.max_pool2d, input, *args)


def _by_channel(func: Any, input: TaskTensor, *args: Any, **kwargs: Any) -> Any:
    """Apply a function that treats every channel of an image by itself."""
    if input.dim() != 4:
        return through_vmap(func, (input, *args), kwargs)
    y = func(tasks_as_channels(input.value), *args, **kwargs)
    return TaskTensor(_by_task(y, len(input.value)))


for _pool in (F.avg_pool2d, F.adaptive_avg_pool2d):
    rule(_pool)(partial(_by_channel, _pool))
