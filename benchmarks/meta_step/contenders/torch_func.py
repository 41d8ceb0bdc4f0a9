"""Plain torch.func: `vmap` over the tasks, or a loop over them."""

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from ..workloads import State, Workload
from .base import TorchContender

Params = dict[str, Tensor]


class TorchFunc(TorchContender):
    """`grad` of a loss that holds the inner loop, made by `grad` itself."""

    def query_loss(self, params: Params, task: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        support_x, support_y, query_x, query_y = task

        def support_loss(fast: Params) -> Tensor:
            return cross_entropy(functional_call(self.network, fast, support_x), support_y)

        fast = params
        for _ in range(self.workload.steps):
            # the gradient is a constant for the level outside, which is first order
            with torch.no_grad() if self.workload.first_order else nullcontext():
                gradients = grad(support_loss)(fast)
            fast = {name: fast[name] - self.workload.lr * gradients[name] for name in fast}
        return cross_entropy(functional_call(self.network, fast, query_x), query_y)

    def initial(self) -> Params:
        return {name: p.detach() for name, p in self.network.named_parameters()}

    def add(self, gradients: Params) -> None:
        for name, p in self.network.named_parameters():
            p.grad = gradients[name] if p.grad is None else p.grad + gradients[name]


class TorchFuncLoop(TorchFunc):
    """One task after another."""

    def backward(self) -> None:
        for task in self.tasks:
            gradients = grad(self.query_loss)(self.initial(), task)
            self.add({name: g / len(self.tasks) for name, g in gradients.items()})


class TorchFuncVmap(TorchFunc):
    """All tasks at once. Wrong where `F.batch_norm` stands in the inner loop (torch 2.13)."""

    def __init__(self, workload: Workload, state: State) -> None:
        super().__init__(workload, state)
        self.batch = tuple(state[1:])

    def backward(self) -> None:
        def mean_loss(params: Params) -> Tensor:
            return vmap(self.query_loss, in_dims=(None, 0))(params, self.batch).mean()

        self.add(grad(mean_loss)(self.initial()))
