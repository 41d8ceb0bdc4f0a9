"""The mean rank of several anomaly scores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..episodes import Samples
from ..scikit import as_outputs
from .base import Combination, Evidence, Weighting, learn_all
from .replacement import COMBINATION

if TYPE_CHECKING:
    from ..learners.base import Learner


class RankAverage(Combination):
    """Brings anomaly scores to ranks among the support rows and takes their weighted mean.

    A rank is the share of support rows with a lower score, so that detectors of any scale can be
    mixed; beyond the highest support score a saturating function of the score keeps the order.
    Labels are not looked at: the weights are the prior's, equal if nothing was learned across
    tasks, which is the mean of ranks, a strong combination of detectors (Aggarwal and Sathe, 2015).

    References:
        Theoretical Foundations and Algorithms for Outlier Ensembles,
        https://doi.org/10.1145/2830544.2830549
    """

    n_landmarks = 2

    def observe(self, learners: "Mapping[str, Learner]", support: Samples) -> Evidence:
        """Fit all detectors and score the support rows."""
        predictors = learn_all(learners, support)
        with torch.no_grad():
            scores = [predictor(support.x)[:, 0].cpu().double() for predictor in predictors]
        known = [score.sort().values for score in scores]
        ranks = torch.stack([_ranks(*pair) for pair in zip(scores, known, strict=True)])
        centred = ranks - ranks.mean(dim=1, keepdim=True)
        unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
        others = max(len(unit) - 1, 1)
        agreement = ((unit @ unit.T).sum(dim=1) - 1) / others  # mean Spearman correlation
        top = torch.stack([_top_heaviness(score) for score in scores])
        return Evidence(
            predictors=predictors,
            outputs=ranks[..., None],
            landmarks=torch.stack([agreement, top], dim=1),
            state=known,
        )

    def weigh(
        self,
        names: Sequence[str],
        evidence: Evidence,
        support: Samples,
        prior: Tensor,
        training: bool = False,
    ) -> Weighting:
        """Take the weights from the prior."""
        weights = prior.softmax(dim=0)
        report = {"weights": dict(zip(names, weights.tolist(), strict=True)), "kept": COMBINATION}
        return Weighting(weights, report)

    def answer(self, evidence: Evidence, weighting: Weighting, query: Tensor) -> Tensor:
        """Return the weighted mean rank of each query row, in [0, 1], of shape `(Q, 1)`."""
        scores = [predictor(query)[:, 0].double() for predictor in evidence.predictors]
        ranks = torch.stack(
            [
                _ranks(score, known.to(score))
                for score, known in zip(scores, evidence.state, strict=True)
            ]
        )
        return as_outputs(weighting.weights.to(ranks) @ ranks, query)[:, None]


def _ranks(scores: Tensor, known: Tensor) -> Tensor:
    """Ranks of scores among known ones, sorted, in (0, 1); the order is kept beyond both ends."""
    below = torch.searchsorted(known, scores.contiguous())
    above = torch.searchsorted(known, scores.contiguous(), right=True)
    scale = (known - known.median()).abs().mean().clamp_min(1e-12)
    distance = (scores - known.median()) / scale
    within = 0.5 + distance / (1 + distance.abs()) / 2  # in (0, 1), increasing
    return (0.5 * (below + above) + within) / (len(known) + 1)


def _top_heaviness(scores: Tensor) -> Tensor:
    """How far the highest scores stand out: skewness, brought to order 1."""
    centred = scores - scores.mean()
    return (centred.pow(3).mean() / centred.pow(2).mean().clamp_min(1e-12).pow(1.5)).clamp(
        -5, 5
    ) / 5
