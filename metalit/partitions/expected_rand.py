"""What adjusted Rand index partitions may be expected to have."""

import numpy as np

from ..graphs.types import Floats


def expected_adjusted_rand(together: Floats, probabilities: Floats) -> Floats:
    """Estimate the adjusted Rand index of each of A partitions with each of B unknown truths.

    The index in its form for pairs, with expected counts in the place of counts. Exact where the
    probabilities are 0 and 1 and all pairs of rows are given, so that it compares partitions too.

    Args:
        together: Whether a partition puts each of R pairs of rows into one cluster, 0 or 1,
            `(A, R)`.
        probabilities: How probable it is that the truth does, in [0, 1], `(B, R)`.

    Returns:
        Of shape `(A, B)`, at most 1; about 0 for a partition that has nothing to do with the truth.
    """
    ours, theirs = together.mean(axis=1)[:, None], probabilities.mean(axis=1)[None, :]
    both, chance = together @ probabilities.T / together.shape[1], ours * theirs
    return np.asarray((both - chance) / np.maximum((ours + theirs) / 2 - chance, 1e-12))
