"""What every contender can do: tell its meta-gradients, and make one outer step."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..workloads import OUTER_LR, State, Workload


class Contender(ABC):
    """One way to make a meta-step, built for one workload.

    Attributes:
        compiles: Whether the first step compiles, whose memory is not that of a step.
    """

    compiles = False

    @abstractmethod
    def __init__(self, workload: Workload, state: State) -> None: ...

    @abstractmethod
    def gradients(self) -> dict[str, Tensor]:
        """Return the gradients of the mean query loss by the network's names of parameters."""

    @abstractmethod
    def step(self) -> None:
        """Adapt, differentiate, update the initial weights by Adam, and wait for the device."""


class TorchContender(Contender):
    """A contender whose meta-gradients end in `.grad` of a network of its own."""

    def __init__(self, workload: Workload, state: State) -> None:
        self.workload = workload
        self.network = state.copied_network()
        self.tasks = state.tasks()
        self.is_on_cuda = state.support_x.is_cuda
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=OUTER_LR)

    @abstractmethod
    def backward(self) -> None:
        """Add the meta-gradients to `.grad` of the network."""

    def gradients(self) -> dict[str, Tensor]:
        self.optimizer.zero_grad()
        self.backward()
        return {name: p.grad.clone() for name, p in self.network.named_parameters()}

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.backward()
        self.optimizer.step()
        if self.is_on_cuda:
            torch.cuda.synchronize()
