"""When the combination takes the place of the best single base learner."""

import pytest
import torch
from scipy.stats import ttest_rel

from metalit.combinations.replacement import replace_if_better

FOLD = torch.arange(40) % 4


def decide(combined, single, alpha=0.05, margin=0.0):
    losses = torch.stack([single, single + 1])
    return replace_if_better(["good", "bad"], losses, combined, FOLD, margin, alpha)


def noise(seed=0):
    return torch.randn(40, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(("gain", "kept"), [(1.0, "combination"), (0.1, "good"), (-1.0, "good")])
def test_a_gain_has_to_be_significant(gain, kept):
    single = noise().abs()
    combined = single - gain + noise(1)
    report = decide(combined, single)
    expected = ttest_rel(combined, single, alternative="less").pvalue
    assert report["p_value"] == pytest.approx(expected)
    assert report["gain"] == pytest.approx(float((single - combined).mean()))
    assert report["kept"] == kept
    assert (expected < 0.05) == (kept == "combination")


def test_without_a_test_the_mean_decides():
    single = noise().abs()
    combined = single - 0.02 + 0.5 * (noise(1) - noise(1).mean())
    assert decide(combined, single)["kept"] == "good"
    assert decide(combined, single, alpha=1)["kept"] == "combination"
    assert decide(combined, single, alpha=1, margin=0.03)["kept"] == "good"


def test_rounding_is_no_gain():
    single = 1 + noise().abs()
    report = decide(single * (1 - 1e-14), single, alpha=1)
    assert report["kept"] == "good"
    assert report["gain"] == 0
    assert report["p_value"] == 1


def test_the_single_learner_is_chosen_without_the_fold_that_it_is_judged_on():
    # each is best on the rows of one fold only, by luck: chosen on the others, it is not taken
    lucky = torch.where(FOLD == 0, 0.0, 1.0).double()
    steady = torch.full((40,), 0.9).double()
    report = replace_if_better(["l", "s"], torch.stack([lucky, steady]), steady, FOLD, 0.0, 1.0)
    assert report["best"] == "l"  # on all rows: 0.75
    # out of fold 0 the lucky one has 1.0, so that the steady one answers there; elsewhere 2/3
    single = torch.where(FOLD == 0, 0.9, 1.0).double()
    assert report["gain"] == pytest.approx(float((single - steady).mean()))
    assert report["kept"] == "combination"
