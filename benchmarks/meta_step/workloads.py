"""What is timed: plain networks, random episodes, and a name for each combination."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

OUTER_LR = 1e-3


class ConvNet(nn.Module):
    """Conv4 as a user writes it: nothing of metalit in it."""

    def __init__(self, in_shape: tuple[int, ...], width: int, way: int, depth: int = 4) -> None:
        super().__init__()
        channels, height, breadth = in_shape
        blocks = []
        for _ in range(depth):
            blocks.append(
                nn.Sequential(
                    nn.Conv2d(channels, width, 3, padding=1),
                    nn.BatchNorm2d(width, track_running_stats=False),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
            )
            channels, height, breadth = width, height // 2, breadth // 2
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels * height * breadth, way)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).flatten(1))


class Perceptron(nn.Module):
    """Two hidden layers, as a user writes them."""

    def __init__(self, in_shape: tuple[int, ...], width: int, way: int) -> None:
        super().__init__()
        (features,) = in_shape
        self.layers = nn.Sequential(
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, way),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@dataclass(frozen=True)
class Workload:
    """One kind of meta-step.

    Attributes:
        make_network: `ConvNet` or `Perceptron`; called as (in_shape, width, way).
        support, query: Rows of a task, all classes together.
        steps: Inner steps.
        first_order: Without second derivatives.
    """

    name: str
    make_network: Callable[[tuple[int, ...], int, int], nn.Module]
    in_shape: tuple[int, ...]
    width: int
    way: int
    support: int
    query: int
    tasks: int
    steps: int
    lr: float
    first_order: bool = False

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a name such as `w1-k5-t32-fo`: W1, 5 inner steps, 32 tasks, first order.

        Without `-t` the tasks are those of the family: 4 of W1 and W2, 32 of W3. `-n100` makes
        support and query set of 100 rows each.
        """
        found = re.fullmatch(r"(w[123])-k(\d+)(?:-t(\d+))?(?:-n(\d+))?(-fo)?", name)
        if not found:
            raise ValueError(f"workload {name!r} is not of the form w1-k5, w1-k5-t32 or w1-k5-fo.")
        family, steps, tasks, rows, first_order = found.groups()
        base = FAMILIES[family]
        return replace(
            base,
            name=name,
            steps=int(steps),
            tasks=int(tasks or base.tasks),
            support=int(rows or base.support),
            query=int(rows or base.query),
            first_order=bool(first_order),
        )

    @property
    def is_convolutional(self) -> bool:
        return len(self.in_shape) == 3

    def tiny(self) -> Self:
        """The same kind of network and loop at shapes that cost nothing."""
        in_shape = (self.in_shape[0], 8, 8) if self.is_convolutional else (4,)
        depth = {"make_network": tiny_conv_net} if self.is_convolutional else {}
        sizes = {"in_shape": in_shape, "width": 4, "way": 3, "support": 6, "query": 9}
        return replace(self, **sizes, **depth, name=f"tiny {self.name}", tasks=3, steps=2)


def tiny_conv_net(in_shape: tuple[int, ...], width: int, way: int) -> ConvNet:
    return ConvNet(in_shape, width, way, depth=2)


FAMILIES = {
    "w1": Workload("w1", ConvNet, (1, 28, 28), 64, 5, 5, 75, tasks=4, steps=1, lr=0.4),
    "w2": Workload("w2", ConvNet, (3, 84, 84), 32, 5, 5, 75, tasks=4, steps=5, lr=0.01),
    "w3": Workload("w3", Perceptron, (10,), 64, 5, 50, 50, tasks=32, steps=5, lr=0.01),
}
TITLES = {
    "w1": "W1 Omniglot Conv4-64, 28 x 28, 5-way 1-shot, 75 query",
    "w2": "W2 mini-ImageNet Conv4-32, 84 x 84 x 3, 5-way 1-shot, 75 query",
    "w3": "W3 MLP 10-64-64-5, 50 support and 50 query rows",
}
WORKLOADS = ["w1-k1", "w1-k5", "w1-k5-t32", "w2-k5", "w3-k1", "w3-k5", "w3-k20", "w3-k5-t256"]


class State(NamedTuple):
    """Where every contender starts from: weights and a meta-batch of B tasks.

    Attributes:
        network: Initial weights; contenders copy it.
        support_x: `(B, S, *features)`; images in 0 to 1, rows of tables standard normal.
        support_y: `(B, S)`, int64 in `[0, way)`, all classes alike.
    """

    network: nn.Module
    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    def tasks(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        return list(zip(*self[1:], strict=True))

    def copied_network(self) -> nn.Module:
        return deepcopy(self.network)


def draw(
    workload: Workload,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> State:
    """Make weights and episodes; the same numbers for all dtypes, up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = workload.make_network(workload.in_shape, workload.width, workload.way)

    def rows(number: int) -> tuple[Tensor, Tensor]:
        shape = (workload.tasks, number, *workload.in_shape)
        make = torch.rand if workload.is_convolutional else torch.randn
        x = make(shape, generator=generator)
        y = (torch.arange(number) % workload.way).expand(workload.tasks, number)
        return x.to(device, dtype), y.contiguous().to(device)

    return State(network.to(device, dtype), *rows(workload.support), *rows(workload.query))
