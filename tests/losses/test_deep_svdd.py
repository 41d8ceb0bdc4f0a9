"""Deep SVDD against the objectives of the paper, minimised by SciPy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn
from torch.func import functional_call, grad, vmap

from metalit.losses import DeepSVDD
from metalit.networks import MLP, Hypersphere, ReconstructionError


def scores(seed=0, n=20):
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_one_class_objective_is_the_mean_squared_distance_in_radii():
    torch.manual_seed(0)
    network = Hypersphere(MLP(3, 8, 4), features=4).double()
    x = torch.randn(15, 3, dtype=torch.float64)
    squared = (network.encoder(x) - network.centre).square().sum(1)
    expected = squared.mean() / network.log_radius.exp() ** 2
    torch.testing.assert_close(DeepSVDD()(network(x)), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("nu", [0.01, 0.1, 0.33, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 7, 20])
def test_the_soft_boundary_is_where_the_objective_is_smallest(nu, n):
    squared = scores(1, n).exp().numpy().ravel()

    def objective(boundary):
        return boundary + np.maximum(0, squared - boundary).mean() / nu

    best = min(objective(value) for value in [0.0, *squared])  # it is linear in between
    found = minimize_scalar(objective, bounds=(0, squared.max()), method="bounded")
    value = DeepSVDD(nu)(scores(1, n)).item()
    assert value <= found.fun + 1e-9
    assert value == pytest.approx(best if nu < 1 else objective(squared.min()), rel=1e-12)


def test_only_rows_outside_of_the_boundary_have_a_slope():
    slope = grad(DeepSVDD(0.27))(scores(2)).ravel()  # 5 of 20, and a part of the sixth
    outside = scores(2).ravel().argsort(descending=True)[:5]
    expected = torch.zeros(20, dtype=torch.float64)
    expected[outside] = scores(2).ravel().exp()[outside] / (20 * 0.27)
    torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("nu", [None, 0.3])
def test_it_has_right_first_and_second_derivatives_and_runs_under_vmap(nu):
    loss = DeepSVDD(nu)
    if nu is None:
        assert torch.autograd.gradcheck(loss, scores(3).requires_grad_())
        assert torch.autograd.gradgradcheck(loss, scores(3).requires_grad_())
    both = torch.stack([scores(4), scores(5)])
    torch.testing.assert_close(vmap(grad(loss))(both)[1], grad(loss)(both[1]))


@pytest.mark.parametrize("nu", [None, 0.2])
def test_steps_on_it_draw_rows_to_the_centre(nu):
    torch.manual_seed(0)
    network = Hypersphere(MLP(3, 8, 4), features=4)
    x = torch.randn(30, 3)
    names = [n for n, _ in network.named_parameters() if n.startswith("encoder")]
    params = {name: dict(network.named_parameters())[name].detach() for name in names}

    def loss(params):
        return DeepSVDD(nu)(functional_call(network, params, x))

    before = loss(params)
    for _ in range(30):
        slopes = grad(loss)(params)
        params = {name: p - 0.02 * slopes[name] for name, p in params.items()}
    assert loss(params) < 0.5 * before


def test_with_the_reconstruction_error_it_is_the_mean_squared_error():
    torch.manual_seed(0)
    network = ReconstructionError(MLP(6, [8, 2, 8], 6)).double()
    x = torch.randn(15, 6, dtype=torch.float64)
    expected = nn.MSELoss()(network.autoencoder(x), x)
    torch.testing.assert_close(DeepSVDD()(network(x)), expected, rtol=1e-6, atol=0)
    (slope,) = torch.autograd.grad(DeepSVDD()(network(x)), network.autoencoder.head.weight)
    (wanted,) = torch.autograd.grad(expected, network.autoencoder.head.weight)
    torch.testing.assert_close(slope, wanted, rtol=1e-6, atol=1e-9)


def test_what_does_not_fit_is_refused():
    for nu in (0, 1.5):
        with pytest.raises(ValueError, match=f"nu={nu} is a share"):
            DeepSVDD(nu)
    with pytest.raises(ValueError, match="error of a row is one number"):
        DeepSVDD()(torch.zeros(4, 2))
