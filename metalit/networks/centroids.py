"""A head whose outputs are distances to centres."""

import math

import torch
from torch import Tensor, nn


class Centroids(nn.Module):
    """Embeds rows and assigns them to learned centres by distance (Xie et al., 2016).

    The logit of a cluster is the logarithm of a Student-t kernel of the distance to its centre,
    `-(freedom + 1) / 2 · log(1 + d² / freedom)`, so that the softmax is the soft assignment of DEC
    and t-SNE; or -d²/2, the logarithm of a Gaussian kernel, as deep k-means takes it. The centres
    are parameters, meta-learned and adapted as any other.

    Differs from the paper: the centres start as random rows of the embedding's scale, not from
    k-means; where they start in a new task is what the outer loop learns.

    Attributes:
        centres: Of shape `(clusters, features)`.

    Args:
        encoder: Maps x of shape `(N, *features)` to embeddings of shape `(N, features)`.
        features: Columns of the embedding.
        clusters: Number of centres, K.
        freedom: Degrees of freedom of the kernel, the paper's alpha; infinite for the
            Gaussian (`.inf` in YAML).

    Raises:
        ValueError: If a number is too small.

    Example:
        >>> Centroids(nn.Identity(), features=2, clusters=3)(torch.zeros(5, 2)).shape
        torch.Size([5, 3])

    References:
        Unsupervised Deep Embedding for Clustering Analysis, https://arxiv.org/abs/1511.06335
    """

    def __init__(
        self, encoder: nn.Module, features: int, clusters: int, freedom: float = 1.0
    ) -> None:
        super().__init__()
        if features < 1 or clusters < 2 or not freedom > 0:
            raise ValueError(
                f"got features={features}, clusters={clusters} and freedom={freedom} but at least "
                "1, at least 2 and a positive number are needed: correct them."
            )
        self.encoder = encoder
        self.features = features
        self.clusters = clusters
        self.freedom = freedom
        self.centres = nn.Parameter(torch.randn(clusters, features))

    def forward(self, x: Tensor) -> Tensor:
        """Map rows to logits of clusters.

        Args:
            x: Inputs that the encoder takes, N of them.

        Returns:
            Logits of shape `(N, clusters)`, none above 0.
        """
        embedded = self.encoder(x).flatten(1)
        # differences, since expanding the square loses digits where distances are small
        squared = (embedded[:, None] - self.centres).square().sum(dim=-1)  # [N, K]
        if math.isinf(self.freedom):
            logits: Tensor = -squared / 2
        else:
            logits = -(self.freedom + 1) / 2 * torch.log1p(squared / self.freedom)
        return logits
