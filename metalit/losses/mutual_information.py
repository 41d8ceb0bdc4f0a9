"""Clustering by information maximisation."""

import torch
from torch import Tensor, nn


class MutualInformation(nn.Module):
    """Negative mutual information of rows and clusters (Krause et al., 2010; Hu et al., 2017).

    `H(Y|X) - marginal · H(Y)`: the mean entropy of each row's probabilities, which is small where
    rows are certain, less the entropy of their mean, which is large where all clusters are used
    alike. With `marginal=1` it is the mutual information, as in RIM; more of it avoids that
    clusters merge, and IMSAT takes 4. Entropies are in nats.

    With `consistency` it is IMSAT: the N outputs are two views of N / 2 rows, first one view of
    all, then the other, as `metalit.learners.TwoViews` makes them. The loss then grows by
    `consistency` times the mean cross-entropy of the second view from the first, which counts as
    a constant there: rows nearby belong to one cluster. The entropies are of the first view.

    Differs from RIM: its penalty of the weights is left to the optimizer. Differs from IMSAT: the
    second view is given with the rows, for example random noise, not the direction in which the
    outputs change most (virtual adversarial training), which needs the network.

    Args:
        marginal: Weight of the entropy of the mean.
        consistency: Weight of the agreement of two views; 0 for rows of one view.

    Raises:
        ValueError: If a weight is negative, or, when called, if two views have an odd number of
            rows.

    Example:
        >>> round(MutualInformation()(20 * torch.eye(3)).item(), 3)  # -log 3
        -1.099

    References:
        Discriminative Clustering by Regularized Information Maximization, NIPS 2010.
        Learning Discrete Representations via Information Maximizing Self-Augmented Training,
        https://arxiv.org/abs/1702.08720
    """

    def __init__(self, marginal: float = 1.0, consistency: float = 0.0) -> None:
        super().__init__()
        if marginal < 0 or consistency < 0:
            raise ValueError(
                f"got marginal={marginal} and consistency={consistency} but both must be 0 or "
                "more: correct the negative one."
            )
        self.marginal = marginal
        self.consistency = consistency

    def forward(self, input: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar of at least `-marginal · log K`.

        Args:
            input: Logits of shape `(N, K)`.
            target: Not looked at.
        """
        logs = input.log_softmax(dim=-1)
        if not self.consistency:
            return self._information(logs)
        if len(logs) % 2:
            raise ValueError(
                f"got {len(logs)} rows but two views of the same rows are an even number: train "
                "with SelfSupervised and TwoViews, or set consistency=0."
            )
        first, second = logs.chunk(2)
        disagreement = -(first.detach().exp() * second).sum(dim=-1).mean()
        return self._information(first) + self.consistency * disagreement

    def _information(self, logs: Tensor) -> Tensor:
        conditional = -(logs.exp() * logs).sum(dim=-1).mean()
        shares = logs.exp().mean(dim=0)
        # the slope of the entropy is infinite at 0, which an empty cluster may reach
        shares = shares.clamp_min(torch.finfo(logs.dtype).tiny)
        marginal: Tensor = torch.special.entr(shares).sum()
        return conditional - self.marginal * marginal
