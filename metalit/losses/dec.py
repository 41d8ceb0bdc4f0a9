"""The loss of deep embedded clustering."""

from torch import Tensor, nn


class DEC(nn.Module):
    """Pulls soft clusters towards a sharper version of themselves (Xie et al., 2016).

    From the probabilities q of the K clusters comes the target distribution
    `p_nk ∝ q_nk² / sum_n q_nk`, normalised over the clusters of each row: confident assignments
    count more, and large clusters less. The loss is the mean of KL(p_n || q_n). It is 0 where every
    row is certain, or where all rows and clusters are alike.

    The paper's q is a Student-t kernel of distances to centres; the network `Centroids` gives it,
    with centres that are parameters. Any other logits may be used as well. As in the paper p is a
    constant: no gradient, and no outer gradient either, flows through it.

    Take small inner steps: with large ones meta-training may end with all rows in one cluster, as
    `benchmarks/objectives.py` shows.

    Differs from the paper: p is computed anew in every step, from the rows at hand, and no
    autoencoder is trained first; where the weights start is what the outer loop learns.

    Example:
        >>> import torch
        >>> DEC()(torch.tensor([[0.0, 0.0], [0.0, 0.0]])).item()  # all alike
        0.0

    References:
        Unsupervised Deep Embedding for Clustering Analysis, https://arxiv.org/abs/1511.06335
    """

    def forward(self, input: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar of 0 or more.

        Args:
            input: Logits of shape `(N, K)`, log q up to a constant in each row.
            target: Not looked at.
        """
        log_q = input.log_softmax(dim=-1)
        # in logarithms, since the squares of small probabilities would vanish
        fixed = log_q.detach()
        log_p = (2 * fixed - fixed.logsumexp(dim=0)).log_softmax(dim=-1)
        return (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
