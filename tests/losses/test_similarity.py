"""Cross-entropy of pairs against scikit-learn's log loss."""

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from metalit.losses import SimilarityCrossEntropy


def odds_of(n: int) -> torch.Tensor:
    odds = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).double()
    return odds + odds.mT


def test_the_loss_is_the_mean_over_pairs() -> None:
    odds, y = odds_of(7), torch.tensor([0, 0, 1, 2, 1, 0, 2])
    one, other = np.triu_indices(7, 1)
    expected = log_loss((y[one] == y[other]).numpy(), odds[one, other].sigmoid().numpy())
    assert SimilarityCrossEntropy()(odds, y).item() == pytest.approx(expected)


def test_pairs_that_were_not_looked_at_and_rows_without_a_label_do_not_count() -> None:
    odds, y = odds_of(7), torch.tensor([0, 0, 1, 2, 1, 0, 2])
    kept = SimilarityCrossEntropy()(odds[:5, :5], y[:5])
    wider = odds.clone()
    wider[5], wider[:, 5] = 0, 0
    assert SimilarityCrossEntropy()(wider[:6, :6], y[:6]) == kept
    assert SimilarityCrossEntropy()(odds, torch.where(torch.arange(7) < 5, y, -1)) == kept


def test_without_a_pair_the_loss_is_0_and_can_be_differentiated() -> None:
    odds = torch.zeros(3, 3, requires_grad=True)
    loss = SimilarityCrossEntropy()(odds, torch.tensor([0, 1, 0]))
    loss.backward()
    assert loss.item() == 0


def test_the_slope_is_probability_minus_truth() -> None:
    odds = odds_of(4).requires_grad_()
    SimilarityCrossEntropy()(odds, torch.tensor([0, 0, 1, 1])).backward()
    assert odds.grad is not None
    assert odds.grad[0, 1].item() == pytest.approx((odds[0, 1].sigmoid().item() - 1) / 6)
    assert odds.grad[0, 2].item() == pytest.approx(odds[0, 2].sigmoid().item() / 6)
