"""One minus the adjusted Rand index of soft clusters."""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


class SoftAdjustedRand(nn.Module):
    """One minus the adjusted Rand index, differentiable in the probabilities of clusters.

    The index (Hubert and Arabie, 1985) counts pairs of rows; a pair of soft rows counts as much as
    it is expected to, were each row assigned by its probabilities, independently. For one-hot
    probabilities it is the index of scikit-learn. It does not depend on the numbers of clusters,
    nor on how many there are.

    Example:
        >>> logits = 50 * torch.eye(3)[[0, 0, 1, 1, 2, 2]]
        >>> round(SoftAdjustedRand()(logits, torch.tensor([1, 1, 0, 0, 2, 2])).item(), 6)
        0.0

    References:
        Comparing partitions, https://doi.org/10.1007/BF01908075
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar: 0 for equal partitions, 1 for what chance gives, at most 1.5.

        It is 0 where fewer than two rows have a label.

        Args:
            input: Logits of shape `(N, K)`.
            target: Clusters of shape `(N,)`, integers; rows labelled -1 are left out.
        """
        # half precision could not hold the squares of the counts, nor may autocast bring it back
        with torch.autocast(input.device.type, enabled=False):
            return self._loss(input, target)

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        known = target >= 0
        logits = input[known]
        soft = (logits if logits.dtype == torch.float64 else logits.float()).softmax(dim=1)
        hard = one_hot(target[known]).to(soft) if bool(known.any()) else soft.new_zeros(0, 1)
        alone = soft.square().sum()  # a row and itself are no pair
        both = ((soft.T @ hard).square().sum() - alone) / 2
        ours = (soft.sum(dim=0).square().sum() - alone) / 2
        theirs = (hard.sum(dim=0).square().sum() - len(hard)) / 2
        pairs = len(soft) * (len(soft) - 1) / 2
        chance = ours * theirs / max(pairs, 1)
        span = (ours + theirs) / 2 - chance
        # both partitions are one cluster, or single rows: they are equal
        tiny = 1e-9 * max(pairs, 1)
        return torch.where(span > tiny, (span - both + chance) / span.clamp_min(tiny), 0 * ours)
