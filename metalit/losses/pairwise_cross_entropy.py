"""Cross-entropy of "are these two rows of one cluster?"."""

import torch
from torch import Tensor, nn


class PairwiseCrossEntropy(nn.Module):
    """Binary cross-entropy over all pairs of rows, of one cluster or not (Hsu et al., 2018).

    The probability that rows i and j are of one cluster is `sum_k p_ik p_jk`, with p the softmax
    of the logits. What the labels are called does not matter, nor does the order of the outputs,
    so no matching is needed; outputs may be more than labels. Pairs with a row of label -1 are
    ignored; the loss is 0 if no pair is left. It takes memory for all pairs.

    Differs from the paper: labels stand for similarities of pairs, which there a second network
    predicts; to learn from chosen pairs only, label the others -1.

    Args:
        balanced: Whether pairs of one cluster weigh as much as all other pairs together. With many
            clusters nearly all pairs are of two, and telling them apart would count alone.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])  # one cluster or two: 1 to 1
        >>> round(PairwiseCrossEntropy()(logits, torch.tensor([5, 5])).item(), 3)
        0.693

    References:
        Learning to Cluster in Order to Transfer Across Domains and Tasks,
        https://arxiv.org/abs/1711.10125
        Multi-class Classification without Multi-class Labels, https://arxiv.org/abs/1901.00544
    """

    def __init__(self, balanced: bool = False) -> None:
        super().__init__()
        self.balanced = balanced

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over pairs, a scalar in nats.

        Args:
            input: Logits of shape `(N, K)`.
            target: Clusters of shape `(N,)`, integers; -1 for "no label".
        """
        # the products of small probabilities need the range of float32
        with torch.autocast(input.device.type, enabled=False):
            logits = input if input.dtype == torch.float64 else input.float()
            shares = logits.softmax(dim=-1)
            return self._loss(shares, target)

    def _loss(self, shares: Tensor, target: Tensor) -> Tensor:
        tiny = torch.finfo(shares.dtype).tiny
        # 1 - p as a sum of the others, since the difference is 0 where p is nearly 1
        clusters = shares.shape[-1]
        others = shares @ (1 - torch.eye(clusters, dtype=shares.dtype, device=shares.device))
        one = (shares @ shares.T).clamp_min(tiny).log()  # [N, N]
        two = (shares @ others.T).clamp_min(tiny).log()
        known = (target >= 0).to(shares.dtype)
        pairs = torch.triu(known[:, None] * known, diagonal=1)
        same = pairs * (target[:, None] == target)
        different = pairs - same
        if self.balanced:
            same = same / same.sum().clamp_min(1)
            different = different / different.sum().clamp_min(1)
        weight = (same + different).sum()
        return -(same * one + different * two).sum() / torch.where(weight > 0, weight, 1)
