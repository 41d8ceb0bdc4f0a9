"""The multiply-adds that a meta-step cannot do without, counted from the shapes of the layers.

Let M be the multiply-adds of one row through all convolutions and linear layers, and F those of the
first layer, whose input needs no gradient. A forward takes M, a backward 2 M - F (the gradient of
every weight and of every input but the first). The double backward of an inner step is one product
of the support loss's Hessian with a vector: y = W x has the tangent dW x + W dx, its two gradients
have tangents of two products each, so 6 M in every layer but 2 F in the first, whose input has no
tangent. Forward and backward of the inner step itself are not counted again. So a task needs

    query * (3 M - F)  +  steps * support * (3 M - F)  +  steps * support * (6 M - 4 F)

the last term without first order. Batch norm, ReLU, pooling, losses and Adam count nothing.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .workloads import Workload, draw


def forward_multiply_adds(network: nn.Module, x: Tensor) -> tuple[int, int]:
    """Return M and F of one row, for a network that is called once with rows `(N, *features)`."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # each weight meets every position of the output once
        weight = module.weight
        positions = output[0].numel() // weight.shape[0]
        counts.append(weight.numel() * positions)

    hooks = [layer.register_forward_hook(count) for layer in _layers(network)]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return sum(counts), counts[0]


def multiply_adds(workload: Workload) -> int:
    """Return those of the whole meta-step."""
    state = draw(workload)
    every, first = forward_multiply_adds(state.network, state.support_x[0])
    once = 3 * every - first
    hessian = 0 if workload.first_order else 6 * every - 4 * first
    adapt = workload.steps * workload.support * (once + hessian)
    return workload.tasks * (workload.query * once + adapt)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    return (m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
