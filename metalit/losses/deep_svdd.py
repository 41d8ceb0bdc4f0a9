"""The one-class loss of Deep SVDD, and of reconstruction."""

import math

import torch
from torch import Tensor, nn


class DeepSVDD(nn.Module):
    """Mean squared error of rows that count as normal (Ruff et al., 2018).

    The outputs s are those of `Hypersphere`, where exp(s) is the squared distance of an embedded
    row to the centre, in units of a radius. The loss is the mean of exp(s): one-class Deep SVDD.
    With outputs of `ReconstructionError` the same loss is the reconstruction error, by which an
    autoencoder learns what is normal. Both outputs are anomaly scores as they are.

    With `nu` it is the soft-boundary objective `R² + mean(max(0, exp(s) - R²)) / nu`, at the R²
    that makes it smallest: a share `nu` of the rows lies outside. Rows inside give no gradient.

    Differs from the paper: R² is solved for in every step, not every few epochs, and enters as a
    constant. Weight decay is left to the optimizer. See `Hypersphere` for what keeps all rows from
    being mapped to the centre, where the loss is 0.

    Args:
        nu: Share of rows outside, in (0, 1]; None for the one-class objective.

    Raises:
        ValueError: If `nu` is out of range, or, when called, if there is more than one output.

    Example:
        >>> DeepSVDD()(torch.tensor([[1.0], [3.0]]).log())
        tensor(2.)

    References:
        Deep One-Class Classification, https://proceedings.mlr.press/v80/ruff18a.html
    """

    def __init__(self, nu: float | None = None) -> None:
        super().__init__()
        if nu is not None and not 0 < nu <= 1:
            raise ValueError(f"nu={nu} is a share of rows: give one in (0, 1], such as 0.1.")
        self.nu = nu

    def forward(self, input: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar, in squared radii.

        Args:
            input: Logarithms of squared errors, of shape `(N, 1)`.
            target: Not looked at: every row counts as normal.
        """
        if input.shape[-1] != 1:
            raise ValueError(
                f"got outputs of shape {tuple(input.shape)} but the error of a row is one number: "
                "take a network such as Hypersphere or ReconstructionError."
            )
        squared = input.squeeze(-1).exp()  # [N]
        if self.nu is None:
            return squared.mean()
        outside = min(math.floor(self.nu * len(squared)), len(squared) - 1)
        boundary = squared.detach().sort(descending=True).values[outside]
        return boundary + torch.relu(squared - boundary).mean() / self.nu
