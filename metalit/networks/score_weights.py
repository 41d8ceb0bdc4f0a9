"""The network that weighs anomaly scores by how they lie on a table."""

import torch
from torch import Tensor, nn


class ScoreWeights(nn.Module):
    """From calibrated anomaly scores to one score a row, the same for any order of rows.

    The score of a row is a weighted mean of its K calibrated scores, plus a correction. The weights
    come from descriptors of each score's distribution over the context, of the task, and a learned
    embedding of each score, by a deep set over the K scores (Zaheer et al., 2017). The correction
    is a deep set over the K scores of the row, each with its rank. Both start at zero: an untrained
    network returns the mean of the calibrated scores, and training starts from there.

    Args:
        n_scores: Number of scores, K.
        n_descriptors: Descriptors of one score.
        n_task_descriptors: Descriptors of the task.
        width: Width of the layers that weigh scores.
        row_width: Width of the layers that correct rows, which are most of the cost; 0 for weights
            alone.

    References:
        Deep Sets, https://arxiv.org/abs/1703.06114
    """

    EMBEDDING = 8

    def __init__(
        self,
        n_scores: int,
        n_descriptors: int,
        n_task_descriptors: int,
        width: int = 32,
        row_width: int = 16,
    ) -> None:
        super().__init__()
        self.n_scores = n_scores
        self.n_descriptors = n_descriptors
        self.n_task_descriptors = n_task_descriptors
        self.width = width
        self.row_width = row_width
        self.embedding = nn.Parameter(0.3 * torch.randn(n_scores, self.EMBEDDING))
        inputs = self.EMBEDDING + n_descriptors + n_task_descriptors
        self.score = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.among = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU())
        self.prior = nn.Parameter(torch.zeros(n_scores))
        self.weight = _zero(nn.Linear(width, 1))
        if row_width:
            self.value = nn.Linear(4, row_width)
            self.place = nn.Linear(width, row_width)
            self.inner = nn.Sequential(nn.SiLU(), nn.Linear(row_width, row_width), nn.SiLU())
            self.outer = nn.Sequential(
                nn.Linear(row_width, row_width), nn.SiLU(), _zero(nn.Linear(row_width, 1))
            )

    def forward(self, scores: Tensor, ranks: Tensor, descriptors: Tensor, task: Tensor) -> Tensor:
        """Score rows.

        Args:
            scores: Calibrated scores of shape `(Q, k)`, the first k of the K that there are.
            ranks: Their ranks among the context, 0 to 1, shape `(Q, k)`.
            descriptors: Of each score on this context, shape `(k, n_descriptors)`.
            task: Of the task, shape `(n_task_descriptors,)`.

        Returns:
            One score a row, shape `(Q,)`, higher for more anomalous.
        """
        k, dtype = scores.shape[1], self.embedding.dtype
        scores, ranks, descriptors, task = (
            given.to(dtype) for given in (scores, ranks, descriptors, task)
        )
        known = torch.cat([self.embedding[:k], descriptors, task.expand(k, -1)], dim=1)
        hidden = self.score(known)  # [k, width]
        hidden = self.among(torch.cat([hidden, hidden.mean(0).expand_as(hidden)], dim=1))
        weights = 1 + self.prior[:k] + self.weight(hidden).squeeze(1)
        mixed: Tensor = scores @ weights / k
        if not self.row_width:
            return mixed
        mean = scores.mean(1, keepdim=True)
        seen = torch.stack([scores, 3 * (ranks - 0.5), scores - mean, mean.expand_as(scores)], -1)
        row = self.inner(self.value(seen) + self.place(hidden)).mean(1)  # [Q, row_width]
        corrected: Tensor = mixed + self.outer(row).squeeze(1)
        return corrected


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
