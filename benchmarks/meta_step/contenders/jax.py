"""JAX, compiled: tasks scanned, mapped, or one call each with all steps unrolled."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from jax import lax
from jax import numpy as jnp
from torch import Tensor

from ..workloads import OUTER_LR, State, Workload
from . import jax_network
from .base import Contender

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of torch's Adam
MOST_UNROLLED = {True: 5, False: 20}  # steps, of convolutions or not; more compile for minutes


class Jax(Contender):
    """The whole step compiled, Adam too.

    Args:
        mode: "scan" over tasks and steps, "vmap" over tasks and scan over steps, or "loop": a
            compiled gradient of one task, its steps unrolled, called from Python for each.
    """

    compiles = True

    def __init__(self, workload: Workload, state: State, mode: str) -> None:
        convolutional = workload.is_convolutional
        if mode == "vmap" and convolutional:
            raise ValueError("grouped convolutions, which vmap makes, take minutes to compile.")
        if mode == "loop" and workload.steps > MOST_UNROLLED[convolutional]:
            raise ValueError(f"{workload.steps} unrolled steps take minutes to compile.")
        # float64 has to be allowed around everything that makes, compiles or calls
        self.is_double = state.support_x.dtype == torch.float64
        with jax.enable_x64(self.is_double):
            self.parameters = {
                name: _put(jax_network.to_jax(p.detach().cpu()), p.device)
                for name, p in state.network.named_parameters()
            }
            batch = _batch(state, convolutional)
            moments = jax.tree.map(lambda p: (p * 0, p * 0), self.parameters)
            # as the step returns it: a number of Python would make the second step compile anew
            self.outer_state = (moments, _put(np.zeros((), np.int32), state.support_x.device))
            if mode == "loop":
                self._unroll(workload, batch)
            else:
                self._compile(workload, batch, mode)

    def gradients(self) -> dict[str, Tensor]:
        with jax.enable_x64(self.is_double):
            found = self.take_gradients(self.parameters)
        return {
            name: jax_network.to_torch(torch.from_numpy(np.array(g))) for name, g in found.items()
        }

    def step(self) -> None:
        with jax.enable_x64(self.is_double):
            self.parameters, self.outer_state = self.take_step(self.parameters, self.outer_state)
        jax.block_until_ready(self.parameters)

    def _compile(self, workload: Workload, batch: list[Any], mode: str) -> None:
        gradients = scanned(workload) if mode == "scan" else mapped(workload)
        compiled = jax.jit(gradients)

        def whole(parameters: Any, outer_state: Any, *batch: Any) -> Any:
            return adam(parameters, outer_state, gradients(parameters, *batch))

        step = jax.jit(whole)
        self.take_gradients = lambda parameters: compiled(parameters, *batch)
        self.take_step = lambda parameters, outer_state: step(parameters, outer_state, *batch)

    def _unroll(self, workload: Workload, batch: list[Any]) -> None:
        tasks = [[part[t] for part in batch] for t in range(workload.tasks)]
        loss = query_loss(workload, unrolled=True)

        def add(total: Any, parameters: Any, *task: Any) -> Any:
            found = jax.grad(loss)(parameters, *task)
            return jax.tree.map(lambda s, g: s + g / workload.tasks, total, found)

        compiled, update = jax.jit(add), jax.jit(adam)
        zero = jax.tree.map(jnp.zeros_like, self.parameters)

        def gradients(parameters: Any) -> Any:
            total = zero
            for task in tasks:
                total = compiled(total, parameters, *task)
            return total

        self.take_gradients = gradients
        self.take_step = lambda parameters, outer_state: update(
            parameters, outer_state, gradients(parameters)
        )


def query_loss(workload: Workload, unrolled: bool = False) -> Callable[..., Any]:
    """Return (parameters, support x, support y, query x, query y) of one task → its query loss."""

    def outputs(parameters: Any, x: Any) -> Any:
        if workload.is_convolutional:
            return jax_network.conv_net(parameters, x, by_patches=not unrolled)
        return jax_network.mlp(parameters, x)

    def cross_entropy(parameters: Any, x: Any, y: Any) -> Any:
        log_p = jax.nn.log_softmax(outputs(parameters, x))
        return -jnp.take_along_axis(log_p, y[:, None], 1).mean()

    def adapted(parameters: Any, sx: Any, sy: Any, qx: Any, qy: Any) -> Any:
        def update(fast: Any, _: None = None) -> tuple[Any, None]:
            gradients = jax.grad(cross_entropy)(fast, sx, sy)
            if workload.first_order:
                gradients = lax.stop_gradient(gradients)
            return jax.tree.map(lambda p, g: p - workload.lr * g, fast, gradients), None

        fast = parameters
        if unrolled:  # not by scan, which keeps a loop around convolutions that makes them slow
            for _ in range(workload.steps):
                fast, _ = update(fast)
        else:
            fast, _ = lax.scan(update, fast, None, length=workload.steps)
        return cross_entropy(fast, qx, qy)

    return adapted


def scanned(workload: Workload) -> Callable[..., Any]:
    """Return the meta-gradients of a batch, one task after another."""
    loss = query_loss(workload)

    def gradients(parameters: Any, *batch: Any) -> Any:
        def add(total: Any, task: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, jax.grad(loss)(parameters, *task)), None

        total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, parameters), tuple(batch))
        return jax.tree.map(lambda g: g / workload.tasks, total)

    return gradients


def mapped(workload: Workload) -> Callable[..., Any]:
    """Return the meta-gradients of a batch, all tasks at once."""
    over_tasks = jax.vmap(query_loss(workload), (None, 0, 0, 0, 0))
    return jax.grad(lambda parameters, *batch: over_tasks(parameters, *batch).mean())


def adam(parameters: Any, outer_state: Any, gradients: Any) -> tuple[Any, Any]:
    """Update parameters as torch's Adam does; the state is (moments by name, steps done)."""
    (moments, count), (first, second) = outer_state, BETAS
    count = count + 1
    new_moments, new = {}, {}
    for name, g in gradients.items():
        m, v = moments[name]
        m, v = first * m + (1 - first) * g, second * v + (1 - second) * g * g
        root = jnp.sqrt(v / (1 - second**count)) + EPSILON
        new[name] = parameters[name] - OUTER_LR * (m / (1 - first**count)) / root
        new_moments[name] = (m, v)
    return new, (new_moments, count)


def _batch(state: State, convolutional: bool) -> list[Any]:
    """Support x, support y, query x, query y, images as `(B, N, H, W, C)`."""
    parts = []
    for tensor in state[1:]:
        rows = tensor.cpu()
        if rows.is_floating_point() and convolutional:
            rows = rows.movedim(2, -1)
        parts.append(_put(rows.numpy(), tensor.device))
    return parts


def _put(values: Any, device: torch.device) -> Any:
    """Return an array that stays on the device of JAX that torch's is."""
    try:
        (found, *_) = jax.devices(device.type)
    except RuntimeError:
        raise ValueError(f"this build of JAX has no {device.type} device.") from None
    return jax.device_put(np.ascontiguousarray(values), found)
