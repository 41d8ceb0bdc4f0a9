"""higher (Grefenstette et al., 2019), https://github.com/facebookresearch/higher."""

import torch
from torch.nn.functional import cross_entropy

from ..workloads import State, Workload
from .base import TorchContender


class Higher(TorchContender):
    """`innerloop_ctx` for every task; first order by the gradient at the fast weights."""

    def __init__(self, workload: Workload, state: State) -> None:
        super().__init__(workload, state)
        self.inner_optimizer = torch.optim.SGD(self.network.parameters(), lr=workload.lr)

    def backward(self) -> None:
        import higher

        second_order = not self.workload.first_order
        for support_x, support_y, query_x, query_y in self.tasks:
            with higher.innerloop_ctx(
                self.network,
                self.inner_optimizer,
                copy_initial_weights=False,
                track_higher_grads=second_order,
            ) as (network, inner):
                for _ in range(self.workload.steps):
                    inner.step(cross_entropy(network(support_x), support_y))
                loss = cross_entropy(network(query_x), query_y) / len(self.tasks)
                if second_order:
                    loss.backward()
                    continue
                # its fast weights are leaves then, which do not reach the initial ones
                fast = list(network.parameters())
                for p, gradient in zip(
                    self.network.parameters(), torch.autograd.grad(loss, fast), strict=True
                ):
                    p.grad = gradient if p.grad is None else p.grad + gradient
