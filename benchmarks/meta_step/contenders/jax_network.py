"""The networks of the workloads written for JAX, with images channels-last as its kernels want."""

from typing import Any

import jax
from jax import lax
from jax import numpy as jnp
from torch import Tensor

EPSILON = 1e-5  # of torch's batch norm


def conv_net(parameters: Any, x: Any, by_patches: bool) -> Any:
    """`workloads.ConvNet` on images of shape `(N, H, W, C)`.

    Args:
        by_patches: Convolve by a matrix product of patches: XLA's convolution falls to a plain
            loop on the CPU when it stands inside a scan.
    """
    depth = sum(name.endswith(".0.weight") for name in parameters)
    for i in range(depth):
        kernel, bias, scale, shift = (
            parameters[f"blocks.{i}.{part}"]
            for part in ("0.weight", "0.bias", "1.weight", "1.bias")
        )
        x = (_patches if by_patches else _convolve)(x, kernel) + bias
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = jax.nn.relu((x - mean) * lax.rsqrt(variance + EPSILON) * scale + shift)
        x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
        # strided views: the second derivative of XLA's window reduction takes minutes on the CPU
        rows = jnp.maximum(x[:, ::2], x[:, 1::2])
        x = jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])
    x = jnp.moveaxis(x, -1, 1).reshape(len(x), -1)  # torch flattens (C, H, W)
    return x @ parameters["head.weight"] + parameters["head.bias"]


def mlp(parameters: Any, x: Any) -> Any:
    """`workloads.Perceptron`."""
    for i in (0, 2, 4):
        x = x @ parameters[f"layers.{i}.weight"] + parameters[f"layers.{i}.bias"]
        x = jax.nn.relu(x) if i < 4 else x
    return x


def to_jax(p: Tensor) -> Any:
    """Turn kernels `(O, I, H, W)` to `(H, W, I, O)`, matrices `(O, I)` to `(I, O)`."""
    return (p.permute(2, 3, 1, 0) if p.dim() == 4 else p.t() if p.dim() == 2 else p).numpy()


def to_torch(p: Tensor) -> Tensor:
    return p.permute(3, 2, 0, 1) if p.dim() == 4 else p.t() if p.dim() == 2 else p


def _convolve(x: Any, kernel: Any) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


def _patches(x: Any, kernel: Any) -> Any:
    n, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [x[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    rows = jnp.concatenate(shifted, -1).reshape(-1, 9 * channels)
    return (rows @ kernel.reshape(9 * channels, -1)).reshape(n, height, width, -1)
