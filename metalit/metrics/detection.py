"""How well an anomaly score ranks."""

import torch
from torch import Tensor

from .base import EpisodeMetric


class AUROC(EpisodeMetric):
    """Area under the ROC curve: how often an anomaly scores higher than a normal row.

    Ties count half. Rows of label -1 are ignored; an episode without a label, or with a score that
    is NaN, has no area: NaN. An episode whose labels are all of one class is an error, since one
    such episode would spoil the mean over all.

    Raises:
        ValueError: When called, if there is more than one output or a query has one class only.
    """

    name = "auroc"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode, 0 to 1.

        Args:
            outputs: Anomaly scores of shape `(B, Q, 1)`, higher for more anomalous.
            y: Labels of shape `(B, Q)`, 0 for normal, 1 for anomalous, -1 for "no label".

        Returns:
            Areas of shape `(B,)`, float32.
        """
        if outputs.shape[-1] != 1:
            raise ValueError(
                f"got outputs of shape {tuple(outputs.shape)} but an anomaly score is one number: "
                "give the learner 1 output."
            )
        scores = outputs.squeeze(-1).detach().double()
        areas = [_area(s[t >= 0], t[t >= 0]) for s, t in zip(scores, y, strict=True)]
        return torch.stack(areas).float()


class PairAUROC(EpisodeMetric):
    """Area under the ROC curve of log-odds that pairs of rows have one label.

    Pairs with log-odds of exactly 0 were not looked at; these, and pairs with a row of label -1, do
    not count. NaN for an episode in which all pairs that count are of one kind.
    """

    name = "pair_auroc"

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Score each episode, 0 to 1.

        Args:
            outputs: Log-odds of shape `(B, Q, Q)`.
            y: Labels of shape `(B, Q)`, -1 for "no label".

        Returns:
            Areas of shape `(B,)`, float32.
        """
        return torch.stack([_pair_area(*pair) for pair in zip(outputs, y, strict=True)]).float()


def _pair_area(odds: Tensor, labels: Tensor) -> Tensor:
    known = labels >= 0
    one, other = (odds.triu(1) * known[:, None] * known).nonzero(as_tuple=True)
    together = labels[one] == labels[other]
    if together.all() or not together.any():
        return odds.new_tensor(torch.nan)
    return _area(odds[one, other].double(), together.long())


def _area(scores: Tensor, labels: Tensor) -> Tensor:
    """The Mann-Whitney statistic of one episode, from ranks that are averaged over ties."""
    if len(labels) == 0:
        return scores.new_tensor(torch.nan)
    positive = labels > 0
    n_positive = int(positive.sum())
    n_negative = len(labels) - n_positive
    if min(n_positive, n_negative) == 0:
        raise ValueError(
            f"got a query of {n_negative} normal rows and {n_positive} anomalies but AUROC needs "
            "both: enlarge the query or change its contamination."
        )
    ordered = scores.sort().values
    below, up_to = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
    ranks = (below + up_to + 1) / 2
    wins = ranks[positive].sum().double() - n_positive * (n_positive + 1) / 2
    return torch.where(scores.isnan().any(), torch.nan, wins / (n_positive * n_negative))
