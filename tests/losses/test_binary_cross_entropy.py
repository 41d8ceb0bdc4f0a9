"""Binary cross-entropy against torch's own."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap

from metalit.losses import BinaryCrossEntropy, OneClassCrossEntropy


def problem():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 20, 1, generator=generator, dtype=torch.float64)
    return scores, torch.randint(2, (3, 20), generator=generator)


def test_binary_cross_entropy_equals_torch_on_squeezed_float_targets():
    for scores, y in zip(*problem(), strict=True):
        expected = nn.BCEWithLogitsLoss()(scores.squeeze(-1), y.double())
        assert torch.isclose(BinaryCrossEntropy()(scores, y), expected, rtol=1e-12)


def test_rows_without_a_label_do_not_count():
    scores, y = (t[0] for t in problem())
    y[5:9] = -1
    expected = nn.BCEWithLogitsLoss()(scores[y >= 0].squeeze(-1), y[y >= 0].double())
    assert torch.isclose(BinaryCrossEntropy()(scores, y), expected, rtol=1e-12)
    assert not grad(BinaryCrossEntropy())(scores, y)[5:9].any()
    assert BinaryCrossEntropy()(scores, torch.full((20,), -1)) == 0


def test_binary_cross_entropy_runs_under_func_grad_and_vmap():
    scores, y = problem()
    batched = vmap(grad(BinaryCrossEntropy()))(scores, y)
    expected = (scores.sigmoid() - y[..., None]) / 20
    assert torch.allclose(batched, expected, rtol=1e-10)


def test_two_outputs_are_refused():
    with pytest.raises(ValueError, match="1 output"):
        BinaryCrossEntropy()(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))


def test_one_class_cross_entropy_takes_every_row_for_normal_whatever_its_label():
    scores = torch.randn(6, 1, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.softplus(scores).mean()  # -log(1 - sigmoid(s))
    for label in (-1, 0, 1):
        loss = OneClassCrossEntropy()(scores, torch.full((6,), label))
        torch.testing.assert_close(loss, expected)
        (gradient,) = torch.autograd.grad(loss, scores)
        torch.testing.assert_close(gradient, torch.sigmoid(scores) / 6)
