"""A clustering loss that needs no labels."""

import math

import torch
from torch import Tensor, nn


class SoftKMeans(nn.Module):
    """Within-cluster share of the scatter of the outputs, under soft assignments.

    The outputs z of a network are both logits of the K clusters and an embedding. Responsibilities
    are r = softmax(z / temperature), centres the r-weighted means of z, and the loss is
    sum r ||z - centre||^2 divided by sum ||z - mean||^2. By the division shrinking all outputs to
    a point gains nothing: it lies in [0, 1] and is 1 if there is only one cluster or one point.

    It does not ask that all K clusters are used, and two of three blobs often end in one cluster.
    With `balance` the loss grows by `balance * (1 - H / log K)`, where H is the entropy of the mean
    responsibilities, which is what keeps clusters apart in information maximisation (Krause et
    al., 2010). It pulls towards clusters of equal size.

    The value does not change when clusters or rows are permuted, when one number is added to all
    outputs, or when outputs and temperature are multiplied by the same number; it does change when
    the outputs alone are scaled, since assignments then become harder. It is smooth, so inner
    loops can differentiate through it twice, also under `torch.func`.

    Differs from soft k-means, which iterates between responsibilities from distances and centres:
    here the network gives the responsibilities and one pass gives the centres. Differs from deep
    k-means: no autoencoder guards against collapse, the division by the total scatter does, and
    centres are no parameters.

    Args:
        temperature: Divides the outputs before the softmax; smaller is harder.
        balance: Weight of the entropy term; 0 leaves it out.

    Raises:
        ValueError: If the temperature is not positive or the balance negative, or, when called, if
            K is smaller than 2.

    Example:
        >>> round(SoftKMeans(temperature=0.1)(torch.eye(3)).item(), 3)
        0.0

    References:
        MacKay, Information Theory, Inference, and Learning Algorithms, chapter 22.
        Deep k-Means, https://arxiv.org/abs/1806.10069
        Krause et al., Discriminative Clustering by Regularized Information Maximization, NIPS 2010.
    """

    def __init__(self, temperature: float = 1.0, balance: float = 0.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(
                f"got temperature={temperature} but it must be positive: choose 1.0 or so."
            )
        if not balance >= 0:
            raise ValueError(f"got balance={balance} but it must be 0 or more: choose 3.0 or so.")
        self.temperature = temperature
        self.balance = balance

    def forward(self, input: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar.

        Args:
            input: Outputs of shape `(N, K)`.
            target: Not looked at.
        """
        if input.shape[-1] < 2:
            raise ValueError(
                f"got outputs of shape {tuple(input.shape)} but soft k-means needs 2 or more "
                "clusters: give the network more outputs."
            )
        eps = torch.finfo(input.dtype).eps
        z = input - input.mean(0)
        r = torch.softmax(input / self.temperature, dim=-1)  # [N, K]
        sizes = r.sum(0)  # [K]; an empty cluster has no weight below, whatever its centre is
        centres = (r.T @ z) / sizes.clamp(min=eps)[:, None]  # [K, K]
        # the scatter decomposes: total = within + between, exactly, since centres are means
        between = (sizes * centres.square().sum(-1)).sum()
        within = 1 - between / z.square().sum().clamp(min=eps)
        shares = (sizes / len(input)).clamp(min=eps)  # the slope of the entropy is infinite at 0
        entropy = torch.special.entr(shares).sum() / math.log(input.shape[-1])
        loss: Tensor = within + self.balance * (1 - entropy)
        return loss
