"""The logistic loss of pairs of a normal row and an anomaly: a smooth AUROC."""

from torch import Tensor, nn
from torch.nn.functional import softplus


class PairwiseLogistic(nn.Module):
    """Mean of `log(1 + exp(normal score - anomaly score))` over all pairs (Gao and Zhou, 2015).

    A bound on one minus the area under the ROC curve that gradients can lower: it looks at the
    order of scores within an episode only, whatever their level and the share of anomalies. Rows
    of label -1 are ignored; without a pair the loss is 0.

    Args:
        scale: Multiplies the scores. A larger one is closer to the AUROC, which a network whose
            scores start small would else have to reach by growing them.

    Raises:
        ValueError: If `scale` is not positive, or, when called, if there is more than one output.

    Example:
        >>> import torch
        >>> round(PairwiseLogistic()(torch.zeros(2, 1), torch.tensor([0, 1])).item(), 3)
        0.693

    References:
        On the Consistency of AUC Pairwise Optimization, https://arxiv.org/abs/1208.0645
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale={scale} must be positive, such as 1.0.")
        self.scale = scale

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss, a scalar.

        Args:
            input: Scores of shape `(N, 1)`, higher for more anomalous.
            target: Labels of shape `(N,)`, 0 for normal, 1 for anomalous, -1 for "no label".
        """
        if input.shape[-1] != 1:
            raise ValueError(
                f"got outputs of shape {tuple(input.shape)} but an anomaly score is one number: "
                "give the network 1 output."
            )
        scores = self.scale * input.squeeze(-1)
        losses = softplus(scores[target == 0][:, None] - scores[target == 1])
        return losses.sum() / max(losses.numel(), 1)
