"""Density ratios and outlier exposure against distributions that are known."""

import math

import pytest
import torch
from torch.func import grad, vmap
from torch.nn.functional import binary_cross_entropy_with_logits

from metalit.losses import DensityRatio, OutlierExposure

LOSSES = [DensityRatio(0.0), DensityRatio(0.5), DensityRatio(1.0), OutlierExposure()]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=["KLIEP", "half", "uLSIF", "logistic"])

ROWS, REFERENCE = torch.tensor([6, 3, 1]), torch.tensor([4, 4, 8])  # counts of three values
VALUES = torch.cat([torch.arange(3).repeat_interleave(c) for c in (ROWS, REFERENCE)])
LABELS = torch.arange(2).repeat_interleave(torch.tensor([10, 16]))
RATIO = (ROWS.double() / 10) / (REFERENCE.double() / 16)


def problem(seed=0, n=20):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    return scores, torch.randint(2, (n,), generator=generator)


@every_loss
def test_the_best_score_of_a_value_is_the_ratio_of_its_densities(loss):
    def of(table):  # one score for each of the three values
        return loss(table[VALUES][:, None], LABELS)

    logistic = isinstance(loss, OutlierExposure)
    best = -RATIO.log() if logistic else -torch.expm1(RATIO * math.log(2)).log()
    torch.testing.assert_close(grad(of)(best), torch.zeros(3).double(), atol=1e-12, rtol=0)
    for seed in range(5):
        assert of(best) < of(best + 0.3 * problem(seed, 3)[0][:, 0])


def test_the_losses_are_those_of_their_papers():
    s, y = problem()
    ratios = torch.log1p(torch.exp(-s)) / math.log(2)
    rows, reference = ratios[y == 0], ratios[y == 1]
    least_squares = (reference**2).mean() / 2 - rows.mean()
    torch.testing.assert_close(DensityRatio(1.0)(s, y), 2 * least_squares + 1)
    kliep = reference.mean() - rows.log().mean() - 1
    torch.testing.assert_close(DensityRatio(0.0)(s, y), kliep)
    torch.testing.assert_close(DensityRatio(1e-7)(s, y), kliep, rtol=1e-5, atol=1e-5)
    target = y[:, None].double()
    logistic = binary_cross_entropy_with_logits(s, target, reduction="none").ravel()
    expected = logistic[y == 0].mean() + 0.5 * logistic[y == 1].mean()
    torch.testing.assert_close(OutlierExposure(0.5)(s, y), expected)


@every_loss
def test_a_ratio_of_one_everywhere_is_where_training_starts(loss):
    expected = 2 * math.log(2) if isinstance(loss, OutlierExposure) else 0
    s, y = problem()
    assert loss(torch.zeros_like(s), y).item() == pytest.approx(expected)


@every_loss
def test_rows_without_a_label_do_not_count(loss):
    s, y = problem(1)
    y[5:9] = -1
    torch.testing.assert_close(loss(s, y), loss(s[y >= 0], y[y >= 0]))
    assert not grad(loss)(s, y)[5:9].any()
    assert loss(s, torch.full_like(y, -1)) == 0


@every_loss
def test_a_loss_has_right_first_and_second_derivatives_and_runs_under_vmap(loss):
    (s, y), (t, y_t) = problem(2), problem(3)
    assert torch.autograd.gradcheck(lambda x: loss(x, y), s.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: loss(x, y), s)
    batched = vmap(grad(loss))(torch.stack([s, t]), torch.stack([y, y_t]))
    torch.testing.assert_close(batched[1], grad(loss)(t, y_t))


@every_loss
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e6])
def test_a_loss_and_its_slopes_stay_finite_at_any_scale(loss, scale):
    s, y = problem(4)
    s = s.float() * scale
    assert loss(s, y).isfinite()
    assert grad(loss)(s, y).isfinite().all()
    assert grad(lambda x: grad(loss)(x, y).square().sum())(s).isfinite().all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="power=-1"):
        DensityRatio(-1)
    with pytest.raises(ValueError, match="weight=-1"):
        OutlierExposure(-1)
    for loss in LOSSES:
        with pytest.raises(ValueError, match="1 output"):
            loss(torch.zeros(4, 2), torch.zeros(4).long())
