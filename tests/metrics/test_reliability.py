import numpy as np
import pytest
from scipy.stats import spearmanr

from metalit.metrics import reliability


def test_bins_have_as_many_cases_and_go_from_least_to_most_confident():
    random = np.random.default_rng(0)
    confidence, score = random.random(40), random.random(40)
    found = reliability(confidence, score, bins=4)
    order = confidence.argsort()
    for place in range(4):
        part = order[10 * place : 10 * place + 10]
        assert found.confidence[place] == pytest.approx(confidence[part].mean())
        assert found.score[place] == pytest.approx(score[part].mean())
        half = 1.96 * score[part].std(ddof=1) / 10**0.5
        assert found.ci95[place] == pytest.approx(half)
    assert found.cases == 40
    assert found.rank_correlation == pytest.approx(spearmanr(confidence, score).statistic)
    assert found.confidence == sorted(found.confidence)


def test_the_error_weighs_bins_by_their_cases():
    found = reliability(np.array([0.1, 0.2, 0.9]), np.array([0.1, 0.4, 0.5]), bins=2)
    assert found.error == pytest.approx((2 * 0.1 + 1 * 0.4) / 3)
    assert np.isnan(found.ci95[1])


def test_a_confidence_that_is_always_right_has_no_error():
    score = np.linspace(0, 1, 30)
    found = reliability(score, score, bins=5)
    assert found.error == pytest.approx(0)
    assert found.rank_correlation == pytest.approx(1)


def test_a_constant_confidence_has_no_rank_correlation():
    assert np.isnan(reliability(np.full(9, 0.5), np.linspace(0, 1, 9)).rank_correlation)


@pytest.mark.parametrize(("cases", "bins"), [(0, 3), (4, 0)])
def test_nothing_to_compare_is_refused(cases, bins):
    with pytest.raises(ValueError, match="at least one of each"):
        reliability(np.zeros(cases), np.zeros(cases), bins)
