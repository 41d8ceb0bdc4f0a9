"""Networks whose output is an error that is small for normal rows."""

import math

import torch
from torch import Tensor, nn

SMALLEST = 1e-8  # squared error whose logarithm is taken


class Hypersphere(nn.Module):
    """Scores rows by their distance to a centre in an embedding (Ruff et al., 2018).

    The score is `log(d² / R²)`: above 0 outside of a sphere. `DeepSVDD` is the inner loss that
    draws normal rows to the centre, and binary cross-entropy the outer one, which says what
    distance is far.

    All rows on the centre would be perfect for the inner loss. The paper guards against it by a
    centre that is not trained and layers without bias. Here `MAML(adapt="encoder.*weight")` adapts
    neither biases nor centre nor radius; what they are in all tasks is learned by the outer loop,
    which pays for a collapse.

    Differs from the paper: the centre is meta-learned, not the mean of the embedded rows of one
    table. It does not depend on the rows, so that a query row is scored as a support row is.

    Attributes:
        centre: Of shape `(features,)`.
        log_radius: log R, a scalar.

    Args:
        encoder: Maps x of shape `(N, *features)` to embeddings of shape `(N, features)`.
        features: Columns of the embedding.

    Raises:
        ValueError: If `features` is smaller than 1.

    Example:
        >>> Hypersphere(nn.Identity(), features=2)(torch.zeros(5, 2)).shape
        torch.Size([5, 1])

    References:
        Deep One-Class Classification, https://proceedings.mlr.press/v80/ruff18a.html
    """

    def __init__(self, encoder: nn.Module, features: int) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"features={features} of the embedding must be at least 1.")
        self.encoder = encoder
        self.features = features
        self.centre = nn.Parameter(torch.randn(features))
        self.log_radius = nn.Parameter(torch.tensor(math.log(features) / 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map rows to anomaly scores of shape `(N, 1)`.

        Args:
            x: Inputs that the encoder takes, N of them.
        """
        squared = (self.encoder(x).flatten(1) - self.centre).square().sum(dim=1, keepdim=True)
        return torch.log(squared + SMALLEST) - 2 * self.log_radius


class ReconstructionError(nn.Module):
    """Scores rows by how badly an autoencoder reconstructs them (Hinton and Salakhutdinov, 2006).

    The score is the logarithm of the mean squared residual in units of a meta-learned radius, as
    in `Hypersphere`. With `DeepSVDD` as inner loss the autoencoder is adapted to the rows of a
    table by its mean squared error: the network returns the error, and not the reconstruction, so
    that the loss needs no inputs. Adapt `autoencoder.*`, not the radius, by `MAML(adapt=…)`.

    Attributes:
        log_radius: Logarithm of the root mean square residual that scores 0, a scalar.

    Args:
        autoencoder: Maps x of shape `(N, D)` to reconstructions of the same shape; a bottleneck
            or noise must keep it from the identity.

    Example:
        >>> ReconstructionError(nn.Linear(4, 4))(torch.zeros(5, 4)).shape
        torch.Size([5, 1])

    References:
        Reducing the Dimensionality of Data with Neural Networks,
        https://doi.org/10.1126/science.1127647
    """

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.log_radius = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map rows to anomaly scores of shape `(N, 1)`.

        Args:
            x: Rows of shape `(N, D)`.
        """
        residual = x - self.autoencoder(x)
        squared = residual.flatten(1).square().mean(dim=1, keepdim=True)
        return torch.log(squared + SMALLEST) - 2 * self.log_radius
