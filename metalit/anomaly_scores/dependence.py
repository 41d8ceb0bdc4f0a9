"""Anomaly scores from how columns depend on each other linearly."""

import torch
from torch import Tensor

from .representations import SHRINKAGE, Representations

EXPLAINED = 0.9  # share of the variance in the components that a residual is taken from


class DependenceScores:
    """Six scores from correlations, of standardised columns and of their ranks.

    - The squared Mahalanobis distance with shrunken covariance, its logarithm.
    - The squared distance to the span of the principal components that have 90 % of the variance,
      its logarithm.
    - For standardised columns and for ranks: each column less what the others predict of it
      (a ridge regression of every column at once, from the inverse of the correlations), in units
      of the residuals' standard deviation, as the sum of `log(1 + residual^2)` and as the logarithm
      of the largest. A row whose columns are each ordinary but do not fit together stands out.

    Args:
        representations: Of the context.
        context: The context in each representation.
    """

    NAMES = ("mahalanobis", "residual", "dependence", "misfit", "rank_dependence", "rank_misfit")

    def __init__(self, representations: Representations, context: list[Tensor]) -> None:
        table, _, ranks = context[:3]
        values, vectors = torch.linalg.eigh(table.T @ table)
        share = values.flip(0).cumsum(0) / values.sum().clamp_min(1e-9)
        kept = int((share < EXPLAINED).sum()) + 1
        self.components = vectors[:, -kept:]
        self.predictors = [_residual_map(part) for part in (table, ranks)]
        self.scales = [
            (part @ predictor).std(0, correction=0) + 1e-9
            for part, predictor in zip((table, ranks), self.predictors, strict=True)
        ]
        self.scores = self(context)
        """Of the rows of the context, shape `(N, 6)`; these do not leave themselves out."""

    def __call__(self, rows: list[Tensor]) -> Tensor:
        """Score rows in each representation, of shape `(Q, D)`, as `(Q, 6)`."""
        table, _, ranks, whitened = rows[:4]
        residual = table - table @ self.components @ self.components.T
        found = [(part.square().sum(1) + 1e-6).log() for part in (whitened, residual)]
        for part, predictor, scale in zip(
            (table, ranks), self.predictors, self.scales, strict=True
        ):
            misfit = (part @ predictor).abs() / scale
            found += [misfit.square().log1p().sum(1), (misfit.amax(1) + 1e-3).log()]
        return torch.stack(found, dim=1)


def _residual_map(table: Tensor) -> Tensor:
    """From rows to each column less its ridge regression on the others, up to a scale."""
    correlations = table.T @ table / len(table)
    eye = torch.eye(len(correlations), dtype=table.dtype, device=table.device)
    inverse: Tensor = torch.linalg.inv(correlations + SHRINKAGE * eye)
    return inverse
