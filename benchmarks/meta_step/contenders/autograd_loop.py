"""Plain autograd, one task after another: what learn2learn's MAML does."""

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from .base import TorchContender


class AutogradLoop(TorchContender):
    """The reference of all gradients; stands for learn2learn, which has no build for this Python.

    As in learn2learn's examples every task is differentiated before the next one begins, so that
    no more than one task's graph is kept.
    """

    def backward(self) -> None:
        for support_x, support_y, query_x, query_y in self.tasks:
            fast = dict(self.network.named_parameters())
            for _ in range(self.workload.steps):
                loss = cross_entropy(functional_call(self.network, fast, support_x), support_y)
                gradients = torch.autograd.grad(
                    loss, list(fast.values()), create_graph=not self.workload.first_order
                )
                fast = {
                    name: value - self.workload.lr * gradient
                    for (name, value), gradient in zip(fast.items(), gradients, strict=True)
                }
            loss = cross_entropy(functional_call(self.network, fast, query_x), query_y)
            (loss / len(self.tasks)).backward()
