"""Cross-entropy of the log-odds that pairs of rows belong together."""

from torch import Tensor, nn
from torch.nn import functional


class SimilarityCrossEntropy(nn.Module):
    """Binary cross-entropy of pairs: does a pair of rows have one label, or two?

    Pairs with log-odds of exactly 0 were not looked at and do not count, nor do pairs with a row
    of label -1. 0 if no pair is left.

    References:
        Learning to cluster in order to transfer across domains and tasks,
        https://arxiv.org/abs/1711.10125
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the pairs, a scalar.

        Args:
            input: Log-odds of shape `(N, N)`.
            target: Labels of shape `(N,)`, -1 for none.
        """
        known = target >= 0
        one, other = (input.detach().triu(1) * known[:, None] * known).nonzero(as_tuple=True)
        together = (target[one] == target[other]).to(input.dtype)
        if not len(one):
            return input.sum() * 0
        loss: Tensor = functional.binary_cross_entropy_with_logits(input[one, other], together)
        return loss
