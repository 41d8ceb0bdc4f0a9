"""Accuracy, plain and after matching clusters to labels."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .base import EpisodeMetric
from .clustering import contingency


class Accuracy(EpisodeMetric):
    """Share of rows whose largest output is their label.

    Rows of label -1 are ignored; an episode without a label has no accuracy: NaN.
    """

    name = "accuracy"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode, 0 to 1; outputs `(B, Q, K)`, y `(B, Q)`, returns `(B,)`."""
        hits = outputs.argmax(-1) == y  # never where y = -1
        hits &= ~outputs.isnan().any(-1)  # of which argmax would make class 0
        return hits.sum(-1).float() / (y >= 0).sum(-1)


class MatchedAccuracy(EpisodeMetric):
    """Accuracy at the best one-to-one matching of outputs to labels (the Hungarian method).

    For clusterings, whose numbers mean nothing. Rows of label -1 are ignored; an episode without a
    label has no accuracy: NaN. There may be more labels than outputs; rows left over count as
    wrong. The matching is solved by scipy on the CPU.
    """

    name = "matched_accuracy"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode, 0 to 1; outputs `(B, Q, K)`, y `(B, Q)`, returns `(B,)`."""
        counts = contingency(outputs, y)
        hits = [
            table[linear_sum_assignment(table, maximize=True)].sum()
            for table in counts.cpu().numpy()
        ]
        matched = torch.tensor(hits, dtype=counts.dtype, device=counts.device)
        return (matched / counts.sum((1, 2))).float()
