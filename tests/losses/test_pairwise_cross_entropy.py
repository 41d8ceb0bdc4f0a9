"""Pairwise cross-entropy against loops over pairs and scikit-learn's log loss."""

from itertools import combinations

import pytest
import torch
from sklearn.metrics import log_loss
from torch.func import grad, vmap

from metalit.losses import PairwiseCrossEntropy


def problem(seed=0, n=10, k=4, labels=3):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, k, generator=generator, dtype=torch.float64)
    return z, torch.randint(labels, (n,), generator=generator)


def pairs_of(z, y):
    p = z.softmax(1)
    pairs = [(i, j) for i, j in combinations(range(len(y)), 2) if y[i] >= 0 and y[j] >= 0]
    return [int(y[i] == y[j]) for i, j in pairs], [float(p[i] @ p[j]) for i, j in pairs]


@pytest.mark.parametrize("unlabelled", [0, 3])
def test_it_is_the_log_loss_of_all_pairs_that_have_labels(unlabelled):
    z, y = problem()
    y[:unlabelled] = -1
    expected = log_loss(*pairs_of(z, y))
    assert PairwiseCrossEntropy()(z, y).item() == pytest.approx(expected, rel=1e-10)


def test_balanced_both_kinds_of_pairs_weigh_alike():
    z, y = problem(1, labels=5)
    same, chance = pairs_of(z, y)
    weights = [1 / sum(same) if s else 1 / (len(same) - sum(same)) for s in same]
    expected = log_loss(same, chance, sample_weight=weights)
    assert PairwiseCrossEntropy(balanced=True)(z, y).item() == pytest.approx(expected, rel=1e-10)


def test_names_of_labels_and_outputs_do_not_matter():
    z, y = problem(2)
    value = PairwiseCrossEntropy()(z, y)
    torch.testing.assert_close(PairwiseCrossEntropy()(z[:, [3, 1, 0, 2]], y), value)
    torch.testing.assert_close(PairwiseCrossEntropy()(z, torch.tensor([7, 0, 4])[y]), value)


def test_it_has_right_first_and_second_derivatives_and_runs_under_vmap():
    z, y = problem(3, n=6)
    y[2] = -1
    loss = PairwiseCrossEntropy(balanced=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, y), z.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: loss(x, y), z)
    (a, y_a), (b, y_b) = problem(4), problem(5)
    batched = vmap(grad(loss))(torch.stack([a, b]), torch.stack([y_a, y_b]))
    torch.testing.assert_close(batched[1], grad(loss)(b, y_b))


def test_certain_rows_in_the_wrong_place_still_have_a_slope():
    z = 30 * torch.eye(3)[[0, 0, 1]]  # float32, in which 1 - p is 0
    for y, wrong in (([0, 1, 2], 2), ([0, 1, 0], 3)):
        slope = grad(PairwiseCrossEntropy())(z, torch.tensor(y))
        exact = grad(PairwiseCrossEntropy())(z.double(), torch.tensor(y))
        torch.testing.assert_close(slope, exact.float(), rtol=1e-3, atol=1e-6)
        assert slope[:wrong].abs().sum(1).min() > 0.05


def test_no_pair_with_labels_costs_nothing():
    z, y = problem(6)
    for labels in (torch.full_like(y, -1), torch.where(torch.arange(10) == 4, 1, -1)):
        assert PairwiseCrossEntropy()(z, labels) == 0
        assert not grad(PairwiseCrossEntropy(balanced=True))(z, labels).any()


def test_half_precision_is_not_lost():
    z, y = problem(7)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            PairwiseCrossEntropy()(z.float(), y), PairwiseCrossEntropy()(z, y).float()
        )


def test_steps_on_it_find_the_clusters():
    z, y = problem(8, n=30)
    for _ in range(200):
        z = z - 30 * grad(PairwiseCrossEntropy())(z, y)
    assert PairwiseCrossEntropy()(z, y) < 0.05
