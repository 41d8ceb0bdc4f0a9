"""DEC against its equations in NumPy."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch.func import grad, vmap

from metalit.losses import DEC
from metalit.networks import Centroids


def logits(seed=0, n=12, k=3):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_with_centres_it_is_the_loss_of_the_paper():
    x, centres = logits(1, 20, 4).numpy(), logits(2, 3, 4).numpy()
    q = 1 / (1 + ((x[:, None] - centres) ** 2).sum(-1))  # equation 1, alpha = 1
    q /= q.sum(1, keepdims=True)
    p = q**2 / q.sum(0)  # equation 3
    p /= p.sum(1, keepdims=True)
    network = Centroids(torch.nn.Identity(), features=4, clusters=3).double()
    network.centres.data = torch.from_numpy(centres)
    outputs = network(torch.from_numpy(x))
    np.testing.assert_allclose(outputs.softmax(1).detach(), q, rtol=1e-12)
    expected = np.mean(scipy.stats.entropy(p, q, axis=1))  # equation 2, as a mean
    assert DEC()(outputs).item() == pytest.approx(expected, rel=1e-10)


def test_no_gradient_flows_through_the_target_distribution():
    z = logits()
    q = z.softmax(1)
    p = q**2 / q.sum(0)
    p /= p.sum(1, keepdim=True)
    # the cross-entropy of fixed p has the slope q - p
    torch.testing.assert_close(grad(DEC())(z), (q - p) / len(z))


def test_certain_rows_and_rows_all_alike_cost_nothing():
    assert DEC()(1e3 * torch.eye(3)).item() == pytest.approx(0, abs=1e-6)
    assert DEC()(torch.zeros(5, 3)).item() == pytest.approx(0, abs=1e-6)
    assert DEC()(logits()) > 0


def test_names_of_clusters_order_of_rows_and_shifts_of_a_row_do_not_matter():
    z, value = logits(), DEC()(logits())
    shift = logits(3, 12, 1)
    for same in (z[:, [2, 0, 1]], z.flip(0), z + shift):
        assert torch.isclose(DEC()(same), value, rtol=1e-12)


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e3, 1e6])
def test_it_and_two_derivatives_stay_finite_at_any_scale(scale):
    z = logits(4).float() * scale
    assert DEC()(z).isfinite()
    assert grad(DEC())(z).isfinite().all()
    assert grad(lambda x: grad(DEC())(x).square().sum())(z).isfinite().all()


def test_it_runs_under_vmap():
    z = torch.stack([logits(s) for s in range(3)])
    torch.testing.assert_close(vmap(grad(DEC()))(z)[1], grad(DEC())(z[1]))


def test_steps_on_it_make_rows_certain():
    z = logits(5)
    before = z.softmax(1).amax(1).mean()
    for _ in range(200):
        z = z - 3 * grad(DEC())(z)
    assert z.softmax(1).amax(1).mean() > before + 0.2
