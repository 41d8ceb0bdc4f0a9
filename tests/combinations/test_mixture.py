"""The weights of a mixture: their minimum, its units, and the folds that they come from."""

import pytest
import torch

from metalit.combinations.folds import HeldOut
from metalit.combinations.mixture import Mixture, spread


def problem(rows=60, seed=0):
    """Held-out outputs of three learners for two classes, and labels that the first knows best."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (rows,), generator=generator)
    sharp = torch.tensor([2.0, 1.0, 0.0]).double()[:, None]
    logit = (2 * y - 1) * sharp + torch.randn(3, rows, generator=generator).double()
    outputs = torch.stack([torch.zeros_like(logit), logit], dim=2).softmax(dim=2)
    return outputs, y, torch.ones(rows, 1).double()


def mixture(classes=True, penalty=1.0, loss="cross_entropy"):
    return Mixture(classes, "softmax", loss, penalty, "lbfgs", 0)


START = torch.tensor([0.5, 0.0, -0.5]).double()[:, None, None]


def test_the_penalty_counts_rows():
    outputs, y, ones = problem()
    one = mixture(penalty=3.0).solve(outputs, y, ones, START)
    twice = [torch.cat([part, part], dim=dim) for part, dim in ((outputs, 1), (y, 0), (ones, 0))]
    torch.testing.assert_close(mixture(penalty=6.0).solve(*twice, START), one, atol=1e-5, rtol=0)
    assert not torch.allclose(mixture(penalty=3.0).solve(*twice, START), one, atol=1e-2)


@pytest.mark.parametrize("loss", ["cross_entropy", "brier"])
def test_the_solution_is_where_the_gradient_of_the_penalised_loss_is_zero(loss):
    outputs, y, ones = problem()
    model = mixture(loss=loss)
    logits = model.solve(outputs, y, ones, START).requires_grad_()
    mixed = (logits.softmax(dim=0)[:, 0][:, :, None] * outputs).sum(dim=0)
    right = mixed[torch.arange(60), y]
    losses = -right.log() if loss == "cross_entropy" else 2 * (1 - right).square()
    total = losses.mean() + 0.5 / 60 * (logits - START).square().sum()
    (gradient,) = torch.autograd.grad(total, logits)
    assert float(gradient.abs().max()) < 1e-5


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_weights_of_predictions_do_not_depend_on_the_unit_of_the_targets(unit):
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(50, 1, generator=generator).double()
    noise = (
        torch.randn(3, 50, 1, generator=generator) * torch.tensor([0.3, 0.6, 2.0])[:, None, None]
    )
    ones = torch.ones(50, 1).double()
    model = mixture(classes=False, loss="squared_error")
    expected = model.solve(y + noise, y, ones, START)
    found = model.solve(unit * (y + noise), unit * y, ones, START)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert float(expected.softmax(dim=0)[2]) < 0.1


def test_targets_that_do_not_vary_have_the_unit_one():
    assert spread(torch.ones(4, 1)) == 1
    assert spread(torch.tensor([[0.0], [2.0]])) == 1
    assert spread(torch.tensor([[0.0], [4.0]])) == 4


def test_each_fold_is_mixed_by_the_weights_of_the_others():
    outputs, y, ones = problem()
    fold, model = torch.arange(60) % 3, mixture()
    mixed = model.cross_fit(HeldOut(outputs, y, torch.arange(60), fold), ones, START)
    for number in range(3):
        out = fold == number
        logits = model.solve(outputs[:, ~out], y[~out], ones[~out], START)
        expected = torch.einsum("k,ksc->sc", logits.softmax(dim=0)[:, 0, 0], outputs[:, out])
        torch.testing.assert_close(mixed[out], expected)


def test_a_prior_far_from_what_the_rows_say_does_not_hold_the_weights():
    outputs = torch.tensor([[0.9, 0.1], [0.4, 0.6]]).double()[:, None].expand(2, 60, 2)
    model = Mixture(True, "softmax", "cross_entropy", 0.3, "lbfgs", 0)
    ones, y = torch.ones(60, 1).double(), torch.zeros(60).long()
    wrong = torch.tensor([-5.0, 5.0]).double()[:, None, None]
    logits = model.solve(outputs, y, ones, wrong)[:, 0, 0]
    everywhere = model._replace(solver="differential_evolution").solve(outputs, y, ones, wrong)
    torch.testing.assert_close(logits, everywhere[:, 0, 0], atol=0.02, rtol=0)
    assert logits[0] > logits[1]
