"""Cross-entropy against labels whose numbers mean nothing."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot


class MatchedCrossEntropy(nn.Module):
    """Cross-entropy at the best one-to-one matching of outputs to labels (Kuhn, 1955).

    The value is the smallest cross-entropy over all permutations of the outputs, and the gradient
    that of plain cross-entropy at this permutation. Rows of label -1 are ignored. The matching is
    solved by scipy on the CPU: use it as an outer loss, on one episode; it does not run under
    `torch.func.grad` or `torch.vmap`, as an inner loss must.

    Raises:
        ValueError: When called, if no row has a label or a label is K or more.

    Example:
        >>> outputs = torch.tensor([[0.0, 9.0], [9.0, 0.0]])
        >>> round(MatchedCrossEntropy()(outputs, torch.tensor([0, 1])).item(), 3)
        0.0

    References:
        The Hungarian method for the assignment problem, https://doi.org/10.1002/nav.3800020109
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Args:
            input: Logits of shape `(N, K)`.
            target: Labels of shape `(N,)`, integers in `[0, K)`, or -1 for "no label".
        """
        labelled, k = target >= 0, input.shape[-1]
        labels = target[labelled]
        if len(labels) == 0 or labels.max() >= k:
            raise ValueError(
                f"got labels up to {int(target.max())} for {k} outputs but needs some in [0, {k}) "
                "and -1 for the others: check `way` and the network's outputs."
            )
        losses = -log_softmax(input.detach()[labelled].double(), dim=-1)  # [N, K]
        cost = one_hot(labels, k).to(losses).T @ losses  # [labels, outputs]
        outputs = torch.as_tensor(linear_sum_assignment(cost.cpu().numpy())[1], device=input.device)
        return cross_entropy(input[:, outputs], target, ignore_index=-1)
