"""Fine-tuning: a network trained on the support set by an ordinary optimizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from fnmatch import fnmatchcase
from functools import partial
from math import ceil

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from ..episodes import Samples
from ._checks import check_labelled, check_network
from .base import Learner, Predictor

QUERY_BATCH = 1024  # query inputs answered at once, which bounds the memory


class FineTuned(Learner):
    """Trains a copy of a network on the support set, in mini-batches (Chen et al., 2019).

    The baseline that meta-learning has to beat, and, on a support set of thousands of
    pseudo-labels, an ordinary training run. Every task starts from the initial weights of the
    network, which nothing changes: no gradient flows to the outer loop. The copy is trained in
    training mode, dropout and running statistics included, and answers in evaluation mode.
    Differs from the paper: nothing is trained on base classes beforehand, unless the network
    holds a `PretrainedEncoder`; all weights are trained, unless `adapt` says "head.*"; the head
    starts from the weights that it was given; Adam, not SGD.

    Args:
        network: Maps x of shape `(N, *features)` to outputs of shape `(N, K)`. It is copied. A
            batch norm without running statistics judges the query in sets of 1024.
        inner_loss: Loss of a mini-batch, called as `(outputs, y)`.
        optimizer: Makes the optimizer from the parameters; its learning rate is set here.
        epochs: Passes over the support set.
        batch_size: Support samples a step, at most; batches are of nearly one size.
        adapt: Pattern of the names of the parameters to train, in the form of `fnmatch`.
        seed: Seed of the order of samples and of what is random in the network, in every task
            the same.

    Raises:
        ValueError: If `epochs` or `batch_size` is smaller than 1, or `adapt` matches no parameter.

    Example:
        >>> learner = FineTuned(nn.Linear(2, 3), nn.CrossEntropyLoss(), epochs=2)
        >>> support = Samples(torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, -1]))
        >>> learner(support, torch.randn(4, 2)).shape
        torch.Size([4, 3])

    References:
        A Closer Look at Few-shot Classification, https://arxiv.org/abs/1904.04232
    """

    def __init__(
        self,
        network: nn.Module,
        inner_loss: nn.Module,
        optimizer: OptimizerCallable = torch.optim.Adam,
        epochs: int = 10,
        batch_size: int = 64,
        adapt: str = "*",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if epochs < 1 or batch_size < 1:
            raise ValueError(
                f"epochs={epochs}, batch_size={batch_size}: both should be at least 1."
            )
        names = [name for name, _ in network.named_parameters()]
        if not any(fnmatchcase(name, adapt) for name in names):
            raise ValueError(
                f"adapt={adapt!r} matches no parameter of {type(network).__name__}: "
                f"choose a pattern that matches some of {', '.join(names)}."
            )
        # copies, since another learner may meta-train what was given
        self.network = deepcopy(network).requires_grad_(False)
        self.inner_loss = deepcopy(inner_loss).requires_grad_(False)
        self.optimizer = optimizer
        self.epochs = epochs
        self.batch_size = batch_size
        self.adapt = adapt
        self.seed = seed

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Train on the support set, then answer for the query inputs."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Train a copy of the network on the labelled rows."""
        x, y = _labelled(support)
        network = deepcopy(self.network).train()
        trained = [
            value.requires_grad_()
            for name, value in network.named_parameters()
            if fnmatchcase(name, self.adapt)
        ]
        optimizer = self.optimizer(trained)
        with torch.enable_grad(), _seeded(self.seed, x.device):
            for _ in range(self.epochs):
                order = torch.randperm(len(x)).to(x.device)
                # of nearly one size: batch norm refuses a last batch of a single row
                for rows in order.tensor_split(ceil(len(x) / self.batch_size)):
                    optimizer.zero_grad()
                    self.inner_loss(network(x[rows]), y[rows]).backward()
                    optimizer.step()
        return partial(_answer, network.eval().requires_grad_(False))

    def check(self, support: Samples) -> None:
        """Refuse a support set without a label, or labels that do not fit the network."""
        if not support.y.is_floating_point():
            check_labelled("FineTuned", support)
        check_network(deepcopy(self.network).eval(), self.inner_loss, _labelled(support))


def _labelled(support: Samples) -> Samples:
    """Leave out the rows without a label."""
    x, y = support.x.detach(), support.y
    return Samples(x, y) if y.is_floating_point() else Samples(x[y >= 0], y[y >= 0])


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed of its own inside, and leave the generators outside as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def _answer(network: nn.Module, query: Tensor) -> Tensor:
    return torch.cat([network(part) for part in torch.split(query, QUERY_BATCH)])
