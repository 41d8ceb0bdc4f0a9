"""Whether a combination takes the place of the best single base learner."""

from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import ttest_1samp
from torch import Tensor

COMBINATION = "combination"
"""What reports call the combination, where a base learner stands otherwise."""

_EQUAL = 1e-9  # relative difference of two losses that is rounding


def replace_if_better(
    names: Sequence[str],
    losses: Tensor,
    combined: Tensor,
    fold: Tensor,
    margin: float,
    alpha: float,
) -> dict[str, Any]:
    """Decide by held-out losses what is kept, and say why.

    Args:
        names: Names of the K base learners.
        losses: Of shape `(K, S)`.
        combined: Losses of the combination, of shape `(S,)`, in each fold with the weights that the
            other folds give.
        fold: Fold of each row, of shape `(S,)`.
        margin: How much lower the mean of the combination must be.
        alpha: Level of the one-sided paired t-test over rows; 1 lets the mean decide.

    Returns:
        A report of JSON primitives; "kept" is "combination" or the name of a base learner.
    """
    means = losses.mean(dim=1)
    best = int(means.argmin())
    # like the weights, the single learner is chosen without the fold that it is judged on
    single = torch.empty_like(combined)
    for number in set(fold.tolist()):
        out = fold == number
        single[out] = losses[int(losses[:, ~out].mean(dim=1).argmin()), out]
    gains = single - combined
    gains = torch.where(gains.abs() <= _EQUAL * (single + single.mean()), 0.0, gains)
    gain, p = float(gains.mean()), 1.0
    if len(gains) > 1 and bool(gains.any()):
        p = float(ttest_1samp(gains.numpy(), 0, alternative="greater").pvalue)
    wins = gain > margin and (alpha == 1 or p < alpha)
    return {
        "held_out_loss": dict(zip(names, means.tolist(), strict=True)),
        "combined_loss": float(combined.mean()),
        "best": names[best],
        "gain": gain,
        "p_value": p,
        "kept": COMBINATION if wins else names[best],
        "why": (
            f"its held-out loss {float(combined.mean()):.4g} {'is' if wins else 'is not'} lower "
            f"than {float(single.mean()):.4g} of the best single learner ({names[best]}) by more "
            f"than {margin:g} (p = {p:.2g}, alpha = {alpha:g})"
        ),
    }
