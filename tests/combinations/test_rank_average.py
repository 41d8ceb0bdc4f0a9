"""The mean rank of anomaly scores: scales, order, and the landmarks that a gate sees."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator

from metalit import Samples
from metalit.combinations import RankAverage
from metalit.learners import SklearnDetector, SupervisedMetaLearner


class Scores(BaseEstimator):
    """A detector whose score is a column of x, on a scale of its own."""

    def __init__(self, column=0, power=1):
        self.column = column
        self.power = power

    def fit(self, x, y=None):
        return self

    def score_samples(self, x):
        return -(x[:, self.column] ** self.power)


def test_the_rank_average_does_not_depend_on_the_scale_of_a_score():
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    support, query = Samples(x[:30], torch.full((30,), -1)), x[30:]
    one, other = (
        SupervisedMetaLearner(
            {"a": SklearnDetector(Scores(0)), "b": SklearnDetector(Scores(1, power))},
            RankAverage(),
            hidden=None,
        )(support, query)
        for power in (1, 5)
    )
    assert (one - other).abs().max() < 2 / 31
    expected = (query[:, None] > x[:30]).double().mean(dim=1).mean(dim=1)
    assert (one[:, 0] - expected).abs().max() < 2 / 31


def test_the_rank_average_keeps_the_order_beyond_the_support_set():
    x = torch.rand(30, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    learner = SupervisedMetaLearner({"a": SklearnDetector(Scores())}, RankAverage(), hidden=None)
    query = torch.tensor([[0.5], [2.0], [3.0], [9.0]], dtype=torch.float64)
    scores = learner(Samples(x, torch.full((30,), -1)), query)[:, 0]
    assert torch.equal(scores.argsort(), torch.arange(4))
    assert float(scores.max()) < 1


def test_landmarks_are_the_agreement_with_the_others_and_how_far_the_highest_stand_out():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(80, 3, generator=generator, dtype=torch.float64)
    x[:, 1] = x[:, 0] + 0.3 * x[:, 1]
    x[:3, 2] = 9.0  # a few stand out
    learners = {str(k): SklearnDetector(Scores(k)) for k in range(3)}
    landmarks = RankAverage().observe(learners, Samples(x, torch.full((80,), -1))).landmarks
    correlations = spearmanr(x.numpy()).statistic
    for k in range(3):
        others = np.delete(correlations[k], k).mean()
        assert landmarks[k, 0].item() == pytest.approx(others, abs=0.02)
    assert landmarks[2, 1].item() > 0.5 > abs(landmarks[0, 1].item())


def test_weights_are_those_of_the_prior():
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    learners = {str(k): SklearnDetector(Scores(k)) for k in range(2)}
    support, combination = Samples(x, torch.full((20,), -1)), RankAverage()
    evidence = combination.observe(learners, support)
    prior = torch.tensor([2.0, -1.0])
    weighting = combination.weigh(["0", "1"], evidence, support, prior)
    torch.testing.assert_close(weighting.weights, prior.softmax(dim=0))
    apart = [
        combination.answer(evidence, combination.weigh("ab", evidence, support, only), x)
        for only in (torch.tensor([99.0, 0.0]), torch.tensor([0.0, 99.0]))
    ]
    mixed = prior.softmax(dim=0).double()
    expected = mixed[0] * apart[0] + mixed[1] * apart[1]
    torch.testing.assert_close(combination.answer(evidence, weighting, x), expected)


def test_whole_numbers_are_ranked_too():
    x = torch.arange(20)[:, None]
    learner = SupervisedMetaLearner({"a": SklearnDetector(Scores())}, RankAverage(), hidden=None)
    scores = learner(Samples(x, torch.full((20,), -1)), x)
    assert scores.dtype == torch.float32
    assert torch.equal(scores[:, 0].argsort(), torch.arange(20))
