"""Matched cross-entropy against all permutations, tried one by one."""

from itertools import permutations

import pytest
import torch
from torch.nn.functional import cross_entropy

from metalit.losses import MatchedCrossEntropy


def problem(seed, n=9, k=4, labels=None):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, k, generator=generator, dtype=torch.float64)
    return z, torch.randint(labels or k, (n,), generator=generator)


@pytest.mark.parametrize("labels", [4, 2])
@pytest.mark.parametrize("seed", range(5))
def test_matching_finds_the_smallest_cross_entropy_of_all_permutations(seed, labels):
    z, y = problem(seed, labels=labels)
    every = [cross_entropy(z[:, list(p)], y) for p in permutations(range(4))]
    assert torch.isclose(MatchedCrossEntropy()(z, y), min(every), rtol=1e-12)
    assert min(every) < max(every)


def test_the_gradient_is_that_of_cross_entropy_at_the_best_permutation():
    z, y = problem(7)
    z.requires_grad_()
    best = min(permutations(range(4)), key=lambda p: cross_entropy(z[:, list(p)], y).item())
    (expected,) = torch.autograd.grad(cross_entropy(z[:, list(best)], y), z)
    (actual,) = torch.autograd.grad(MatchedCrossEntropy()(z, y), z)
    assert torch.allclose(actual, expected, rtol=1e-12)


def test_relabelling_changes_nothing():
    z, y = problem(1)
    relabelled = torch.tensor([2, 0, 3, 1])[y]
    assert torch.isclose(MatchedCrossEntropy()(z, relabelled), MatchedCrossEntropy()(z, y))


def test_rows_without_a_label_are_left_out_of_the_matching_and_of_the_mean():
    z, y = problem(2)
    noisy_z, noisy_y = torch.cat([z, 100 * z[:3]]), torch.cat([y, torch.full((3,), -1)])
    assert torch.isclose(MatchedCrossEntropy()(noisy_z, noisy_y), MatchedCrossEntropy()(z, y))


@pytest.mark.parametrize("y", [[-1, -1], [0, 4]])
def test_labels_that_cannot_be_matched_are_refused(y):
    with pytest.raises(ValueError, match="for 4 outputs"):
        MatchedCrossEntropy()(torch.zeros(2, 4), torch.tensor(y))
