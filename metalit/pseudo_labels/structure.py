"""Where clusters lie: soft assignment by the distance to their centres."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Covariance = Literal["full", "shared", "spherical"]

_ABSENT = -1e3  # logit of a cluster without members: none of its rows is ever taken for one
_MAX_FEATURES = 1024  # a matrix a cluster of more takes gigabytes


class ClusterStructure(NamedTuple):
    """A Gaussian for each of K clusters of rows of length D.

    Attributes:
        centres: Of shape `(K, D)`.
        whitening: Inverse Cholesky factors of the covariances, of shape `(K, D, D)`, or the inverse
            standard deviation of all, of shape `()`.
        offsets: Logit at the centre, of shape `(K,)`.
    """

    centres: Tensor
    whitening: Tensor
    offsets: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """Logits of the clusters for rows `(N, D)`, of shape `(N, K)`.

        Minus half of the squared Mahalanobis distance, less the logarithm of the volume.
        """
        columns = []
        for k, centre in enumerate(self.centres):
            differences = rows - centre
            if self.whitening.ndim:
                differences = differences @ self.whitening[k].T
            else:
                differences = differences * self.whitening
            columns.append(self.offsets[k] - differences.square().sum(1) / 2)
        return torch.stack(columns, dim=1).clamp_min(_ABSENT)


def fit_structure(
    rows: Tensor, labels: Tensor, clusters: int, covariance: Covariance = "full"
) -> ClusterStructure:
    """Find the centres and covariances of clusters.

    A covariance of its own is drawn towards the pooled variance, the more the fewer members a
    cluster has: by D rows against one member.

    Args:
        rows: Of shape `(N, D)`, float64.
        labels: Of shape `(N,)` in `[0, clusters)`; rows labelled -1 are left out.
        clusters: Number K of clusters; some may have no members.
        covariance: One a cluster ("full"), one for all ("shared"), or one variance for all features
            and clusters ("spherical").

    Raises:
        ValueError: If rows are too long for covariance matrices.
    """
    size = rows.shape[1]
    if covariance != "spherical" and size > _MAX_FEATURES:
        raise ValueError(
            f"rows have {size} features but a covariance matrix takes at most {_MAX_FEATURES}: "
            'give a reducer such as PCA(20), or covariance="spherical".'
        )
    members = [rows[labels == k] for k in range(clusters)]
    counts = torch.tensor([len(m) for m in members])
    centres = torch.stack([m.mean(0) if len(m) else rows.new_zeros(size) for m in members])
    residuals = (rows - centres[labels])[labels >= 0]
    # so that duplicates have a spread too
    variance = residuals.square().mean() + 1e-9 * rows.var(correction=0) + 1e-12
    offsets = rows.new_zeros(clusters)
    if covariance == "spherical":
        return ClusterStructure(
            centres, variance.rsqrt(), offsets.masked_fill(counts == 0, _ABSENT)
        )
    eye = torch.eye(size, dtype=rows.dtype, device=rows.device)
    pooled = _shrink(residuals, variance, 0.99)
    covariances = [
        pooled
        if covariance == "shared" or not len(m)
        else _shrink(m - centre, variance, len(m) / (len(m) + size))
        for m, centre in zip(members, centres, strict=True)
    ]
    factors = torch.linalg.cholesky(torch.stack(covariances))
    whitening = torch.linalg.solve_triangular(factors, eye.expand_as(factors), upper=False)
    offsets = -factors.diagonal(dim1=1, dim2=2).log().sum(1)
    return ClusterStructure(centres, whitening, offsets.masked_fill(counts == 0, _ABSENT))


def _shrink(residuals: Tensor, variance: Tensor, share: float) -> Tensor:
    """A covariance, drawn towards one variance for all features."""
    own = residuals.T @ residuals / max(len(residuals), 1)
    eye = torch.eye(len(own), dtype=own.dtype, device=own.device)
    return share * own + (1 - share + 1e-3) * variance * eye
