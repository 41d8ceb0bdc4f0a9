"""Which of several partitions to take, and how probable each is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from ..graphs.types import Floats
from .candidates import Candidate, Pairs
from .expected_rand import expected_adjusted_rand


class Choice(NamedTuple):
    """A decision among C partitions.

    Attributes:
        best: Place of the partition to take.
        scores: Adjusted Rand index that each is expected to have, `(C,)`.
        posterior: Probability of each, `(C,)`.
        number_probabilities: Probability of each number of clusters.
    """

    best: int
    scores: Floats
    posterior: Floats
    number_probabilities: dict[int, float]


def choose(candidates: Sequence[Candidate], pairs: Pairs, temperature: float) -> Choice:
    """Take the partition that agrees best with what is probable.

    A number of clusters is as probable as the best partition into so many: exp(expected adjusted
    Rand index / temperature). Partitions into equally many share its probability in the same way.
    Taken is the partition whose adjusted Rand index with one drawn at random is highest in the
    mean, the Bayes decision: the best alone could be a lucky one that no other resembles.

    Args:
        candidates: C partitions, one or more.
        pairs: What they are judged by.
        temperature: Difference of expected indices that makes one e times as probable as another.
    """
    together = np.stack([pairs.together(candidate.labels) for candidate in candidates])
    scores = expected_adjusted_rand(together, pairs.probabilities[None])[:, 0]
    numbers = np.array([candidate.k for candidate in candidates])
    asked, of = np.unique(numbers, return_inverse=True)
    best_of = np.full(len(asked), -np.inf)
    np.maximum.at(best_of, of, scores)
    of_number = softmax(best_of / temperature)
    shares = np.exp((scores - best_of[of]) / temperature)
    posterior = of_number[of] * shares / np.bincount(of, shares)[of]
    best = int(np.argmax(expected_adjusted_rand(together, together) @ posterior))
    return Choice(best, scores, posterior, dict(zip(asked.tolist(), of_number, strict=True)))
