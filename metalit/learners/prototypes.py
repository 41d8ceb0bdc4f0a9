"""Prototypical networks."""

import math
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, one_hot

from ..episodes import Samples
from ..scikit import FLOOR
from ._checks import check_embedding, check_labelled
from .base import Learner, Predictor

Distance = Literal["euclidean", "cosine"]


class Prototypes(Learner):
    """Classifies by the nearest class mean in a learned embedding (Snell et al., 2017).

    The network embeds the support set; the mean of a class is its prototype. A query sample's
    logits are its negative squared Euclidean distances to the prototypes, or its cosine
    similarities with them, divided by the temperature. Learning a task is one pass through the
    network, without gradient steps, and the number of classes may change from task to task: the
    network's outputs are the embedding, not classes. Rows labelled -1 are left out.

    Departs from the paper: a class of which the support set has no row, below one that it has,
    gets the probability 1e-7, as a `SklearnClassifier` gives it; the paper has no such class.

    Args:
        network: Maps x of shape `(N, *features)` to embeddings of shape `(N, D)`; all its outputs
            are used, so `MLP(64, 128, 32)` embeds in 32 dimensions.
        distance: "euclidean", the paper's choice, or "cosine", which ignores the length of an
            embedding and needs a temperature well below 1, such as 0.1.
        temperature: Divides the logits; smaller is more confident. 1 in the paper.

    Raises:
        ValueError: If `distance` is unknown or `temperature` is not positive.

    Example:
        >>> learner = Prototypes(nn.Linear(2, 8))
        >>> support = Samples(torch.randn(6, 2), torch.tensor([0, 0, 1, 1, 2, 2]))
        >>> learner(support, torch.randn(4, 2)).shape
        torch.Size([4, 3])

    References:
        Prototypical Networks for Few-shot Learning, https://arxiv.org/abs/1703.05175
    """

    def __init__(
        self, network: nn.Module, distance: Distance = "euclidean", temperature: float = 1.0
    ) -> None:
        super().__init__()
        if distance not in get_args(Distance):
            raise ValueError(f"distance={distance!r} is unknown: use 'euclidean' or 'cosine'.")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} must be positive, for example 1.0.")
        self.network = network
        self.distance = distance
        self.temperature = temperature

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Average the embedded support set by class, then compare the query inputs with it."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Embed the labelled rows; return the comparison with their class means."""
        labelled = support.y >= 0
        members = one_hot(support.y[labelled])  # [S, W]
        embedded = self.network(support.x[labelled])
        counts = members.sum(dim=0)
        prototypes = members.T.to(embedded) @ embedded / counts.clamp_min(1).unsqueeze(1)  # [W, D]
        return partial(self._compare, prototypes, counts == 0)

    def check(self, support: Samples) -> None:
        """Refuse targets, a support set without a label, and inputs that do not fit the network."""
        if support.y.is_floating_point():
            raise ValueError(
                "Prototypes is a classifier but the episode has float targets: take MAML or a "
                "SklearnRegressor."
            )
        check_labelled("Prototypes", support)
        check_embedding(self.network, support.x)

    def _compare(self, prototypes: Tensor, absent: Tensor, query: Tensor) -> Tensor:
        embedded: Tensor = self.network(query).unsqueeze(1)  # [Q, 1, D]
        if self.distance == "euclidean":
            logits = -(embedded - prototypes).square().sum(dim=2) / self.temperature
        else:
            logits = cosine_similarity(embedded, prototypes, dim=2) / self.temperature
        if not bool(absent.any()):
            return logits
        total = logits.masked_fill(absent, -math.inf).logsumexp(dim=1, keepdim=True)
        return torch.where(absent, total + math.log(FLOOR), logits)
