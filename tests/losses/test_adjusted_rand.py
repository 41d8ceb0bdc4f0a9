"""The soft adjusted Rand index against scikit-learn and against the mean over draws."""

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from metalit.losses import SoftAdjustedRand

LOSS = SoftAdjustedRand()


@pytest.mark.parametrize("seed", range(5))
def test_it_is_that_of_scikit_learn_for_certain_rows(seed):
    generator = torch.Generator().manual_seed(seed)
    labels, truth = torch.randint(5, (2, 40), generator=generator)
    truth = truth % 3
    logits = 1e3 * torch.eye(6, dtype=torch.float64)[labels]
    expected = 1 - adjusted_rand_score(truth, labels)
    assert float(LOSS(logits, truth)) == pytest.approx(expected, abs=1e-12)
    renamed = torch.tensor([7, 0, 3])[truth]
    assert float(LOSS(logits, renamed)) == pytest.approx(expected, abs=1e-12)


def test_pairs_count_as_often_as_they_are_expected_to():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=generator).double()
    truth = torch.arange(12) % 3
    shares = logits.softmax(dim=1)
    same = shares @ shares.T
    upper = torch.triu(torch.ones(12, 12), 1).bool()
    together = (truth[:, None] == truth)[upper].double()
    both, ours, theirs = (same[upper] * together).sum(), same[upper].sum(), together.sum()
    chance = ours * theirs / 66
    expected = 1 - (both - chance) / ((ours + theirs) / 2 - chance)
    assert float(LOSS(logits, truth)) == pytest.approx(float(expected))


def test_its_gradient_is_right():
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(1)).double()
    truth = torch.tensor([0, 0, 1, 1, 2, 2, -1, 0, 1])
    assert torch.autograd.gradcheck(lambda x: LOSS(x, truth), (logits.requires_grad_(),))


def test_rows_without_a_label_are_left_out():
    logits = torch.randn(10, 4, generator=torch.Generator().manual_seed(2))
    truth = torch.arange(10) % 2
    some = torch.where(torch.arange(10) < 7, truth, -1)
    torch.testing.assert_close(LOSS(logits, some), LOSS(logits[:7], truth[:7]))


def test_partitions_without_a_pair_to_tell_apart_cost_nothing():
    certain = torch.ones(5, 1).double().requires_grad_()
    for logits, truth in (
        (certain, torch.zeros(5).long()),
        (certain, torch.full((5,), -1)),
        ((1e3 * torch.eye(3).double()).requires_grad_(), torch.arange(3)),
    ):
        loss = LOSS(logits, truth)
        assert loss.item() == 0
        loss.backward()
    assert bool(certain.grad.isfinite().all())


def test_gradient_descent_on_it_finds_the_clusters():
    truth = torch.arange(30) % 3
    logits = (0.1 * torch.randn(30, 3, generator=torch.Generator().manual_seed(3))).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.2)
    for _ in range(100):
        loss = LOSS(logits, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


def test_half_precision_holds_the_counts():
    truth = torch.arange(3000) % 3
    for dtype in (torch.float16, torch.bfloat16):
        logits = 30 * torch.eye(3)[truth].to(dtype)
        assert abs(LOSS(logits, truth).item()) < 1e-4
    logits = torch.randn(3000, 3, generator=torch.Generator().manual_seed(0))
    plain = LOSS(logits, truth)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(LOSS(logits, truth), plain)
