"""Anomaly detection by batch normalisation: a context adapts a network by its statistics alone."""

from torch import Tensor, nn

from ..episodes import Samples
from ..networks.context_mlp import ContextMLP
from ..networks.one_class import Hypersphere
from .base import Learner


class ACR(Learner):
    """Adaptive centered representations: zero-shot detection by batch norm (Li et al., 2023).

    The network is normalised by the rows of the support set in every layer, so that rows of
    whatever distribution has most of the support set come to lie around one centre, and others do
    not. The score is `log(d² / R²)`, of the distance d to the centre. Nothing is trained on a new
    task. Train it with `BinaryCrossEntropy` on tasks whose queries have anomalies, the paper's
    "meta outlier exposure": it is `log(1 + d² / R²)` for a normal row, `log(1 + R² / d²)` for an
    anomaly.

    Differs from the paper: the statistics are those of the support set, so that a row's score does
    not depend on the rows that are scored with it; a query that equals the support set is the
    paper's case. The loss there is `d²` and `1 / d²`, without the logarithms that bound the
    gradient; the centre is fixed there and learned here.

    Args:
        network: Maps context and query; its columns are those of all tasks.

    Example:
        >>> import torch
        >>> learner = ACR(ContextMLP(3, [16], 4))
        >>> learner(Samples(torch.randn(20, 3), torch.zeros(20)), torch.randn(5, 3)).shape
        torch.Size([5, 1])

    References:
        Zero-Shot Anomaly Detection via Batch Normalization, https://arxiv.org/abs/2302.07849
    """

    def __init__(self, network: ContextMLP) -> None:
        super().__init__()
        self.network = network
        self.sphere = Hypersphere(nn.Identity(), network.out_features)

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Score query rows `(Q, D)` as `(Q, 1)`; labels of the support set are not looked at."""
        scores: Tensor = self.sphere(self.network(support.x.flatten(1), query.flatten(1)))
        return scores

    def check(self, support: Samples) -> None:
        """Refuse a support set of one row, or of other columns than the network's."""
        columns = support.x.flatten(1).shape[1] if support.x.ndim > 1 else 1
        if len(support.x) < 2 or columns != self.network.in_features:
            raise ValueError(
                f"got {len(support.x)} rows of {columns} numbers but the network takes "
                f"{self.network.in_features} and statistics need 2 rows: change in_features, or "
                "give more rows."
            )
