"""TorchOpt (Ren et al., 2023), https://github.com/metaopt/torchopt."""

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from ..workloads import State, Workload
from .base import TorchContender


class TorchOpt(TorchContender):
    """`MetaSGD`, as in its MAML example; first order, which that lacks, by its functional `sgd`."""

    def __init__(self, workload: Workload, state: State) -> None:
        super().__init__(workload, state)
        import torchopt

        self.torchopt = torchopt
        if workload.first_order:
            self.inner = torchopt.sgd(lr=workload.lr)
        else:
            self.inner = torchopt.MetaSGD(self.network, lr=workload.lr)

    def backward(self) -> None:
        for task in self.tasks:
            support_x, support_y, query_x, query_y = task
            if self.workload.first_order:
                loss = self._functional_query_loss(*task)
                (loss / len(self.tasks)).backward()
                continue
            start = self.torchopt.extract_state_dict(self.network, by="reference")
            start_inner = self.torchopt.extract_state_dict(self.inner, by="reference")
            for _ in range(self.workload.steps):
                self.inner.step(cross_entropy(self.network(support_x), support_y))
            loss = cross_entropy(self.network(query_x), query_y)
            (loss / len(self.tasks)).backward()
            self.torchopt.recover_state_dict(self.network, start)
            self.torchopt.recover_state_dict(self.inner, start_inner)

    def _functional_query_loss(
        self,
        support_x: torch.Tensor,
        support_y: torch.Tensor,
        query_x: torch.Tensor,
        query_y: torch.Tensor,
    ) -> torch.Tensor:
        fast = dict(self.network.named_parameters())
        state = self.inner.init(fast)
        for _ in range(self.workload.steps):
            loss = cross_entropy(functional_call(self.network, fast, support_x), support_y)
            gradients = torch.autograd.grad(loss, list(fast.values()))
            named = dict(zip(fast, gradients, strict=True))
            updates, state = self.inner.update(named, state, inplace=False)
            fast = self.torchopt.apply_updates(fast, updates, inplace=False)
        return cross_entropy(functional_call(self.network, fast, query_x), query_y)
