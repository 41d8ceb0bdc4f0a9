"""The pairwise logistic loss against a loop over pairs."""

import math

import pytest
import torch

from metalit.losses import PairwiseLogistic


def test_it_is_the_mean_over_pairs_of_a_normal_row_and_an_anomaly():
    scores = torch.randn(7, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 1, 0, -1, 1, 0, -1])
    pairs = [
        math.log1p(math.exp(scores[i].item() - scores[j].item())) for i in (0, 2, 5) for j in (1, 4)
    ]
    assert PairwiseLogistic()(scores, labels).item() == pytest.approx(sum(pairs) / 6)


def test_only_the_order_counts_and_it_can_be_learned():
    scores, labels = torch.zeros(6, 1), torch.tensor([0, 0, 0, 1, 1, 0])
    assert torch.allclose(
        PairwiseLogistic()(scores, labels), PairwiseLogistic()(scores + 9, labels)
    )
    scores.requires_grad_()
    gradient = torch.autograd.grad(PairwiseLogistic()(scores, labels), scores)[0].squeeze(1)
    assert torch.equal(gradient < 0, labels == 1)


def test_without_a_pair_it_is_zero_and_has_a_gradient():
    scores = torch.ones(3, 1, requires_grad=True)
    loss = PairwiseLogistic()(scores, torch.tensor([0, 0, -1]))
    assert loss.item() == 0
    assert torch.autograd.grad(loss, scores)[0].abs().sum() == 0


def test_a_scale_multiplies_the_scores_and_must_be_positive():
    scores, labels = torch.tensor([[0.2], [0.9], [0.4]]), torch.tensor([0, 1, 1])
    assert torch.equal(
        PairwiseLogistic(3.0)(scores, labels), PairwiseLogistic()(3 * scores, labels)
    )
    with pytest.raises(ValueError, match=r"scale=0\.0 must be positive"):
        PairwiseLogistic(0.0)


def test_several_outputs_are_refused():
    with pytest.raises(ValueError, match="an anomaly score is one number"):
        PairwiseLogistic()(torch.zeros(2, 2), torch.tensor([0, 1]))
