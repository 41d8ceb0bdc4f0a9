"""What adjusted Rand index a partition may be expected to have."""

import numpy as np

from ..graphs.types import Floats


def expected_adjusted_rand(together: Floats, probabilities: Floats) -> float:
    """Estimate the adjusted Rand index of a partition with an unknown truth.

    The index in its form for pairs, with expected counts in the place of counts. Exact where the
    probabilities are 0 and 1 and all pairs of rows are given.

    Args:
        together: Whether the partition puts each of R pairs of rows into one cluster, 0 or 1.
        probabilities: How probable it is that the truth does, `(R,)`.

    Returns:
        At most 1; about 0 for a partition that has nothing to do with the probabilities.
    """
    ours, theirs = float(together.mean()), float(probabilities.mean())
    both, chance = float(np.mean(together * probabilities)), ours * theirs
    return (both - chance) / max((ours + theirs) / 2 - chance, 1e-12)
