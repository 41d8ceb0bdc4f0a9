"""Binary cross-entropy in the shapes of an anomaly detector."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of anomaly scores against integer labels.

    `nn.BCEWithLogitsLoss` for outputs of shape `(N, 1)` and labels of type int64, which it refuses.
    Rows of label -1 are ignored; if all are, the loss is 0.

    Raises:
        ValueError: When called, if there is more than one output.

    Example:
        >>> import torch
        >>> round(BinaryCrossEntropy()(torch.zeros(2, 1), torch.tensor([0, 1])).item(), 3)
        0.693
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss, a scalar.

        Args:
            input: Scores (logits) of shape `(N, 1)`, higher for more anomalous.
            target: Labels of shape `(N,)`, 0 for normal, 1 for anomalous, -1 for "no label".
        """
        if input.shape[-1] != 1:
            raise ValueError(
                f"got outputs of shape {tuple(input.shape)} but an anomaly score is one number: "
                "give the network 1 output."
            )
        labelled = (target >= 0).to(input.dtype)
        losses = binary_cross_entropy_with_logits(
            input.squeeze(-1), target.to(input.dtype), weight=labelled, reduction="sum"
        )
        return losses / labelled.sum().clamp(min=1)


class OneClassCrossEntropy(nn.Module):
    """Binary cross-entropy of anomaly scores when every row counts as normal.

    The inner loss of one-class detection (Frikha et al., 2021): a support set holds normal rows
    only, so that nobody needs to label it. The target is ignored.

    Raises:
        ValueError: When called, if there is more than one output.

    Example:
        >>> round(OneClassCrossEntropy()(torch.zeros(2, 1), torch.tensor([-1, -1])).item(), 3)
        0.693

    References:
        Few-Shot One-Class Classification via Meta-Learning, https://arxiv.org/abs/2007.04146
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss, a scalar.

        Args:
            input: Scores (logits) of shape `(N, 1)`, higher for more anomalous.
            target: Ignored.
        """
        loss: Tensor = BinaryCrossEntropy()(input, torch.zeros_like(input.detach()[:, 0]))
        return loss
