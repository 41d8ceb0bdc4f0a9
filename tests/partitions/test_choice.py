"""The decision among partitions."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from metalit.partitions import Candidate, Pairs, choose

ROWS = 40
ONE, OTHER = np.triu_indices(ROWS, 1)


def candidates(*labels: np.ndarray) -> list[Candidate]:
    return [Candidate.of("", part) for part in labels]


def pairs(labels: np.ndarray, sure: float = 0.9) -> Pairs:
    return Pairs(ONE, OTHER, np.where(labels[ONE] == labels[OTHER], sure, 1 - sure))


HALVES = np.arange(ROWS) // 20
ALMOST = np.where(np.arange(ROWS) == 0, 1, HALVES)  # one row on the other side
QUARTERS = np.arange(ROWS) // 10
STRIPES = np.arange(ROWS) % 2


def test_a_low_temperature_takes_the_highest_expected_index() -> None:
    choice = choose(candidates(STRIPES, HALVES, QUARTERS), pairs(HALVES), 1e-4)
    assert choice.best == 1
    assert choice.posterior == pytest.approx([0, 1, 0])
    assert choice.scores.argmax() == 1
    assert choice.number_probabilities == pytest.approx({2: 1.0, 4: 0.0})


def test_the_partition_that_agrees_with_the_probable_ones_beats_a_lonely_best_one() -> None:
    random = np.random.default_rng(0)
    lonely = random.permutation(STRIPES)
    towards = pairs(lonely, 0.52).probabilities + 0.97 * (pairs(HALVES, 0.52).probabilities - 0.5)
    judged = Pairs(ONE, OTHER, towards)
    crowd = [np.where(np.arange(ROWS) == row, 1 - HALVES, HALVES) for row in range(4)]
    options = candidates(lonely, *crowd, HALVES)
    sharp, broad = choose(options, judged, 1e-5), choose(options, judged, 0.5)
    assert sharp.best == int(sharp.scores.argmax()) == 0
    assert broad.best == 5


def test_it_is_the_bayes_decision() -> None:
    """Against the sum over all partitions of probability times adjusted Rand index."""
    random = np.random.default_rng(1)
    labels = [random.integers(0, 3, ROWS) for _ in range(5)]
    choice = choose(candidates(*labels), pairs(labels[2], 0.6), 0.1)
    gain = [
        sum(p * adjusted_rand_score(a, b) for p, b in zip(choice.posterior, labels, strict=True))
        for a in labels
    ]
    assert choice.best == int(np.argmax(gain))
    expected = np.exp(choice.scores / 0.1)
    assert choice.posterior == pytest.approx(expected / expected.sum())


def test_many_partitions_into_one_number_do_not_make_it_more_probable() -> None:
    few = choose(candidates(HALVES, QUARTERS), pairs(HALVES, 0.7), 0.1)
    many = choose(candidates(HALVES, *[QUARTERS] * 9), pairs(HALVES, 0.7), 0.1)
    assert many.number_probabilities == pytest.approx(few.number_probabilities)
    assert many.posterior[0] == pytest.approx(few.posterior[0])
    assert many.posterior.sum() == pytest.approx(1)
