"""Mutual information against SciPy and scikit-learn."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import mutual_info_score
from torch.func import grad, vmap

from metalit.losses import MutualInformation


def logits(seed=0, n=12, k=3):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("marginal", [0.0, 1.0, 4.0])
def test_it_is_the_difference_of_two_entropies(marginal):
    p = logits().softmax(1).numpy()
    expected = scipy.stats.entropy(p, axis=1).mean() - marginal * scipy.stats.entropy(p.mean(0))
    assert MutualInformation(marginal)(logits()).item() == pytest.approx(expected, rel=1e-12)


def test_of_certain_rows_it_is_that_of_scikit_learn_with_the_rows():
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    sure = 1e3 * torch.eye(3, dtype=torch.float64)[labels]
    expected = -mutual_info_score(np.arange(6), labels.numpy())
    assert MutualInformation()(sure).item() == pytest.approx(expected, rel=1e-10)


def test_the_second_view_pays_for_disagreement_with_the_first():
    first, second = logits(1), logits(2)
    p, q = first.softmax(1), second.softmax(1)
    expected = MutualInformation(4.0)(first) + 0.5 * -(p * q.log()).sum(1).mean()
    both = torch.cat([first, second])
    loss = MutualInformation(4.0, consistency=0.5)
    torch.testing.assert_close(loss(both), expected)
    slope = grad(loss)(both)
    torch.testing.assert_close(slope[:12], grad(MutualInformation(4.0))(first))  # a constant
    torch.testing.assert_close(slope[12:], 0.5 * (q - p) / 12)


def test_it_has_right_first_and_second_derivatives_and_runs_under_vmap():
    z = logits(3, 6).requires_grad_()
    assert torch.autograd.gradcheck(MutualInformation(2.0), z)
    assert torch.autograd.gradgradcheck(MutualInformation(2.0), z)
    loss, both = MutualInformation(2.0, consistency=1.0), torch.stack([logits(4), logits(5)])
    torch.testing.assert_close(vmap(grad(loss))(both)[1], grad(loss)(both[1]))


def test_the_best_value_is_clusters_of_one_size_and_certain_rows():
    sure = 50 * torch.eye(4).repeat(5, 1)
    assert MutualInformation()(sure).item() == pytest.approx(-math.log(4), rel=1e-6)
    assert MutualInformation()(sure[:, [0, 0, 2, 3]]) > MutualInformation()(sure) + 0.3
    assert MutualInformation()(logits(6, 20, 4)) > MutualInformation()(sure)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_an_empty_cluster_leaves_it_and_two_derivatives_finite(scale):
    z = torch.cat([logits(7).float() * scale, torch.full((12, 1), -1e4)], dim=1)
    loss = MutualInformation(4.0)
    assert loss(z).isfinite()
    assert grad(loss)(z).isfinite().all()
    assert grad(lambda x: grad(loss)(x).square().sum())(z).isfinite().all()


def test_names_of_clusters_and_order_of_rows_do_not_matter():
    z, loss = logits(8), MutualInformation()
    for same in (z[:, [2, 0, 1]], z.flip(0), z + logits(9, 12, 1)):
        torch.testing.assert_close(loss(same), loss(z))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="marginal=-1"):
        MutualInformation(-1)
    with pytest.raises(ValueError, match="5 rows but two views"):
        MutualInformation(consistency=1.0)(torch.zeros(5, 2))
