"""Whether a confidence means what it says."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr


class Reliability(NamedTuple):
    """Confidence beside what came true, in bins of as many cases each, the least confident first.

    Attributes:
        confidence: Mean confidence of each bin.
        score: Mean score of each bin.
        ci95: Half the width of the 95 % confidence interval of that mean; NaN for one case.
        error: Mean distance of the two over the bins, each weighted by its cases (the expected
            calibration error of Naeini et al., 2015, here with equal counts).
        rank_correlation: Spearman's, over cases; NaN if one of the two is always the same.
        cases: How many there are.
    """

    confidence: list[float]
    score: list[float]
    ci95: list[float]
    error: float
    rank_correlation: float
    cases: int


def reliability(
    confidence: NDArray[np.float64], score: NDArray[np.float64], bins: int = 6
) -> Reliability:
    """Compare stated confidence with the score that was reached.

    Args:
        confidence: Expected score of each case, of shape `(N,)` with N of 1 or more.
        score: The score, of shape `(N,)`.
        bins: Number of bins; fewer where there are fewer cases.

    Raises:
        ValueError: If there is no case, or `bins` is smaller than 1.

    Example:
        >>> confidence, score = np.array([0.9, 0.1, 0.8, 0.2]), np.array([1.0, 0.0, 0.8, 0.4])
        >>> reliability(confidence, score, bins=2).score
        [0.2, 0.9]

    References:
        Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    if not len(confidence) or bins < 1:
        raise ValueError(
            f"got {len(confidence)} cases and bins={bins} but at least one of each is needed: give "
            "more."
        )
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    stated = [float(confidence[part].mean()) for part in parts]
    reached = [float(score[part].mean()) for part in parts]
    ci95 = [
        float(1.96 * score[part].std(ddof=1) / len(part) ** 0.5) if len(part) > 1 else float("nan")
        for part in parts
    ]
    gaps = np.abs(np.subtract(stated, reached))
    constant = min(np.ptp(confidence), np.ptp(score)) == 0  # no order to compare
    return Reliability(
        confidence=stated,
        score=reached,
        ci95=ci95,
        error=float(np.average(gaps, weights=[len(part) for part in parts])),
        rank_correlation=float("nan") if constant else float(spearmanr(confidence, score)[0]),
        cases=len(order),
    )
