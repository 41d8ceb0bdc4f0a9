"""The clustering loss of deep k-means."""

import torch
from torch import Tensor, nn


class DeepKMeans(nn.Module):
    """Mean squared distance of embedded rows to their centres, softly assigned (Fard et al., 2018).

    With squared distances `d²_nk` of row n to centre k and responsibilities
    `r_n = softmax(-d²_n / temperature)`, the loss is the mean over rows of `sum_k r_nk d²_nk`. The
    unit of the distances is their mean over all rows and centres, a constant of which no gradient
    is taken, so that step sizes and temperatures are alike in all tasks. As the temperature falls
    the loss becomes the inertia of k-means.

    The outputs must be those of `Centroids(freedom=math.inf)`, -d²/2; both the embedding and the
    centres are parameters, as in the paper. Take `SoftKMeans` for a network without centres.

    Differs from the paper: there is no autoencoder, whose reconstruction keeps the embedding from
    shrinking to a point. In a few steps from meta-learned weights it does not get there, since the
    outer loss pays for it; a long training on this loss alone would.

    Args:
        temperature: Divides the squared distances in the softmax, the paper's 1 / alpha; smaller
            is harder.

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> squared = torch.tensor([[1.0, 5.0], [9.0, 1.0]])  # 4 on average
        >>> round(DeepKMeans()(-squared / 2).item(), 3)
        0.25

    References:
        Deep k-Means: Jointly Clustering with k-Means and Learning Representations,
        https://arxiv.org/abs/1806.10069
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(
                f"got temperature={temperature} but it must be positive: choose 0.1 or so."
            )
        self.temperature = temperature

    def forward(self, input: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar of 0 or more: 1 if all distances are alike.

        Args:
            input: -d²/2 of shape `(N, K)`.
            target: Not looked at.
        """
        unit = input.detach().mean().clamp(max=-torch.finfo(input.dtype).tiny)
        squared = input / unit  # [N, K]
        responsibilities = (-squared / self.temperature).softmax(dim=-1)
        return (responsibilities * squared).sum(dim=-1).mean()
