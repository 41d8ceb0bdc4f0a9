"""Networks whose outputs are distances."""

import math

import pytest
import scipy.stats
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from metalit.networks import MLP, Centroids, Hypersphere, ReconstructionError

NETWORKS = {
    "student": lambda: Centroids(MLP(4, 8, 3), features=3, clusters=5),
    "gauss": lambda: Centroids(MLP(4, 8, 3), features=3, clusters=5, freedom=math.inf),
    "sphere": lambda: Hypersphere(MLP(4, 8, 3), features=3),
    "autoencoder": lambda: ReconstructionError(MLP(4, [8, 2, 8], 4)),
}


def rows(n=6, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("freedom", [0.5, 1.0, 7.0])
def test_logits_of_centroids_are_those_of_student_s_t(freedom):
    network = Centroids(nn.Identity(), features=1, clusters=2, freedom=freedom).double()
    x = rows(9, 1)
    distances = (x - network.centres.T).detach().numpy()
    expected = scipy.stats.t(freedom).logpdf(distances) - scipy.stats.t(freedom).logpdf(0)
    torch.testing.assert_close(network(x).detach(), torch.from_numpy(expected))


def test_with_endless_freedom_they_are_those_of_a_gaussian_which_many_degrees_come_near():
    network = Centroids(nn.Identity(), features=4, clusters=3, freedom=math.inf).double()
    squared = torch.cdist(rows(), network.centres).square()
    torch.testing.assert_close(network(rows()), -squared / 2)
    near = Centroids(nn.Identity(), features=4, clusters=3, freedom=1e7).double()
    near.load_state_dict(network.state_dict())
    torch.testing.assert_close(near(rows()), network(rows()), rtol=1e-4, atol=1e-4)


def test_scores_are_logarithms_of_squared_errors_in_radii():
    sphere = Hypersphere(nn.Identity(), features=4).double()
    squared = (rows() - sphere.centre).square().sum(1)
    torch.testing.assert_close(sphere(rows())[:, 0].exp(), squared / 4, rtol=1e-6, atol=0)
    error = ReconstructionError(nn.Linear(4, 4)).double()
    squared = (error.autoencoder(rows()) - rows()).square().mean(1)
    torch.testing.assert_close(error(rows())[:, 0].exp(), squared, rtol=1e-6, atol=0)
    with torch.no_grad():
        error.log_radius += 1
    torch.testing.assert_close(error(rows())[:, 0].exp(), squared / torch.e**2, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_right_to_differentiate_twice_and_to_batch(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    params = {key: value.detach() for key, value in network.named_parameters()}

    def loss(params, x):
        return functional_call(network, params, x).tanh().sum()

    assert torch.autograd.gradcheck(network, rows().requires_grad_())
    both = torch.stack([rows(seed=1), rows(seed=2)])
    batched = vmap(grad(loss), in_dims=(None, 0))(params, both)
    single = grad(loss)(params, both[1])
    for key in params:
        torch.testing.assert_close(batched[key][1], single[key])
    curvature = grad(lambda p: sum(g.square().sum() for g in grad(loss)(p, rows()).values()))(
        params
    )
    assert all(value.isfinite().all() for value in curvature.values())


def test_a_row_on_the_centre_or_perfectly_reconstructed_stays_finite():
    sphere = Hypersphere(nn.Identity(), features=2)
    sphere.centre.data.zero_()
    for network in (sphere, ReconstructionError(nn.Identity())):
        x = torch.zeros(3, 2)
        assert network(x).isfinite().all()
        assert grad(lambda x, f=network: f(x).sum())(x).isfinite().all()


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="clusters=1"):
        Centroids(nn.Identity(), features=2, clusters=1)
    with pytest.raises(ValueError, match="freedom=0"):
        Centroids(nn.Identity(), features=2, clusters=2, freedom=0)
    with pytest.raises(ValueError, match="features=0"):
        Hypersphere(nn.Identity(), features=0)
