"""Deep k-means against the inertia of scikit-learn's."""

import math

import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.func import functional_call, grad, vmap

from metalit.losses import DeepKMeans
from metalit.networks import Centroids


def rows(seed=0, n=40, d=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(centres):
    network = Centroids(nn.Identity(), centres.shape[1], len(centres), freedom=math.inf).double()
    network.centres.data = centres
    return network


def test_cold_it_is_the_inertia_of_k_means():
    x = rows()
    fitted = KMeans(4, n_init=3, random_state=0).fit(x.numpy())
    outputs = at(torch.from_numpy(fitted.cluster_centers_))(x)
    inertia = fitted.inertia_ / len(x) / (-2 * outputs).mean().item()
    assert DeepKMeans(1e-4)(outputs).item() == pytest.approx(inertia, rel=1e-6)
    assert DeepKMeans(1.0)(outputs).item() > inertia


def test_it_is_the_sum_over_rows_and_centres():
    x, centres = rows(1, 6), rows(2, 3)
    squared = torch.tensor([[((row - centre) ** 2).sum() for centre in centres] for row in x])
    unit, expected = squared.mean(), 0.0
    for row in squared / unit:
        expected += (torch.softmax(-row / 0.7, 0) * row).sum() / len(x)
    assert DeepKMeans(0.7)(at(centres)(x)).item() == pytest.approx(expected.item(), rel=1e-12)


def test_steps_on_the_centres_are_those_of_k_means():
    # at the means of its clusters the gradient vanishes
    x = rows(3)
    fitted = KMeans(3, n_init=3, random_state=0, tol=0).fit(x.numpy())
    network = at(torch.from_numpy(fitted.cluster_centers_))

    def loss(centres):
        return DeepKMeans(1e-4)(functional_call(network, {"centres": centres}, x))

    assert grad(loss)(network.centres.detach()).abs().max() < 1e-6
    assert grad(loss)(rows(4, 3)).abs().max() > 1e-2


def test_the_unit_of_the_distances_is_a_constant_that_makes_their_scale_no_matter():
    x, centres = rows(5, 6), rows(6, 2)
    outputs = at(centres)(x)
    torch.testing.assert_close(DeepKMeans()(7 * outputs), DeepKMeans()(outputs))
    unit = (-2 * outputs).mean().detach()

    def explicit(outputs):
        squared = -2 * outputs / unit
        return ((-squared / 0.5).softmax(1) * squared).sum(1).mean()

    slope = grad(DeepKMeans(0.5))(outputs.detach())
    torch.testing.assert_close(slope, grad(explicit)(outputs.detach()))


def test_it_runs_under_vmap_and_its_derivatives_are_finite_even_without_any_distance():
    both = torch.stack([at(rows(8, 2))(rows(9, 6)), at(rows(10, 2))(rows(11, 6))]).detach()
    torch.testing.assert_close(vmap(grad(DeepKMeans()))(both)[1], grad(DeepKMeans())(both[1]))
    for outputs in (both[0].float(), torch.zeros(4, 3)):
        assert DeepKMeans()(outputs).isfinite()
        assert grad(lambda x: DeepKMeans()(x))(outputs).isnan().sum() == 0
    twice = grad(lambda x: grad(DeepKMeans())(x).square().sum())
    assert twice(both[0]).isfinite().all()


def test_a_temperature_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="temperature=0"):
        DeepKMeans(0)
