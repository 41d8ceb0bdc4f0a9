"""Soft k-means against explicit loops, and the invariances its docstring claims."""

import pytest
import scipy.stats
import torch
from sklearn.cluster import KMeans
from torch.func import functional_call, grad, vmap

from metalit.losses import SoftKMeans


def outputs(seed=0, n=12, k=3):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(z, temperature):
    r = torch.softmax(z / temperature, -1)
    within = total = 0.0
    for k in range(z.shape[1]):
        centre = sum(r[n, k] * z[n] for n in range(len(z))) / r[:, k].sum()
        within += sum(r[n, k] * ((z[n] - centre) ** 2).sum() for n in range(len(z)))
    for n in range(len(z)):
        total += ((z[n] - z.mean(0)) ** 2).sum()
    return within / total


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_soft_k_means_equals_the_two_scatters_summed_by_loops(temperature):
    z = outputs()
    assert SoftKMeans(temperature)(z).item() == pytest.approx(
        by_loops(z, temperature).item(), rel=1e-12
    )


def test_cold_soft_k_means_is_the_inertia_of_k_means():
    # three far groups, each near its own corner: argmax is the k-means partition
    z = 20 * torch.eye(3, dtype=torch.float64).repeat(10, 1) + outputs(1, 30)
    fitted = KMeans(3, n_init=3, random_state=0).fit(z.numpy())
    share = fitted.inertia_ / (z - z.mean(0)).square().sum().item()
    assert SoftKMeans(0.01)(z).item() == pytest.approx(share, rel=1e-9)


def test_soft_k_means_has_right_first_and_second_derivatives():
    z = outputs(2, 6).requires_grad_()
    assert torch.autograd.gradcheck(SoftKMeans(0.7), z)
    assert torch.autograd.gradgradcheck(SoftKMeans(0.7), z)
    assert torch.autograd.gradgradcheck(SoftKMeans(0.7, balance=2.0), z)


def test_soft_k_means_does_not_change_under_what_its_docstring_names():
    z, loss = outputs(3), SoftKMeans(0.5)
    value = loss(z)
    assert torch.isclose(loss(z[:, [2, 0, 1]]), value, rtol=1e-12)
    assert torch.isclose(loss(z.flip(0)), value, rtol=1e-12)
    assert torch.isclose(loss(z + 7.0), value, rtol=1e-12)
    assert torch.isclose(SoftKMeans(1.5)(3 * z), value, rtol=1e-12)
    assert not torch.isclose(loss(3 * z), value, rtol=1e-2)
    assert torch.equal(loss(z, torch.zeros(12, dtype=torch.int64)), value)


def test_shrinking_the_outputs_to_a_point_gains_nothing():
    z, loss = outputs(4), SoftKMeans()
    assert loss(1e-3 * z) > loss(z)
    assert loss(torch.zeros(5, 3)) == 1
    assert loss(torch.eye(3)[[0] * 5] * 50) == 1  # one cluster
    assert loss(torch.tensor([[50.0, 0.0], [51.0, 0.0]])) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-4, 1.0, 1e3, 1e6])
def test_soft_k_means_and_its_derivatives_stay_finite_at_any_scale(scale):
    z = outputs(5).float() * scale
    loss, slope = SoftKMeans(), grad(SoftKMeans())(z)
    assert 0 <= loss(z) <= 1
    assert slope.isfinite().all()
    curvature = grad(lambda x: grad(loss)(x).square().sum())(z)
    assert scale < 1e-4 or curvature.isfinite().all()


def test_a_cluster_that_is_empty_does_not_count():
    z = outputs(6).float()
    far = torch.cat([z, torch.full((12, 1), -1e4)], dim=1)
    assert torch.isclose(SoftKMeans()(far), SoftKMeans()(z), rtol=1e-5)
    assert grad(SoftKMeans())(far).isfinite().all()


def test_soft_k_means_trains_under_func_grad_and_vmap():
    network = torch.nn.Linear(4, 3).double()
    params = {name: p.detach() for name, p in network.named_parameters()}
    x = torch.stack([outputs(seed, 20, 4) for seed in range(2)])

    def task_loss(params, x):
        return SoftKMeans()(functional_call(network, params, x), None)

    batched = vmap(grad(task_loss), in_dims=(None, 0))(params, x)
    single = grad(task_loss)(params, x[1])
    assert all(torch.allclose(batched[name][1], single[name], rtol=1e-10) for name in params)
    before = task_loss(params, x[0])
    for _ in range(200):
        slopes = grad(task_loss)(params, x[0])
        params = {name: p - slopes[name] for name, p in params.items()}
    assert task_loss(params, x[0]) < 0.7 * before


def test_the_balance_adds_what_the_entropy_of_the_cluster_sizes_lacks():
    z = outputs(7)
    sizes = torch.softmax(z / 0.5, -1).mean(0).numpy()
    lack = 1 - scipy.stats.entropy(sizes, base=3)
    found = SoftKMeans(0.5, balance=3.0)(z) - SoftKMeans(0.5)(z)
    assert found.item() == pytest.approx(3 * lack, rel=1e-10)


def test_the_balance_prefers_three_clusters_to_two_and_stays_differentiable_if_one_is_empty():
    # without it, merging the two nearer groups of three costs little
    three = 9 * torch.eye(3).repeat(10, 1)
    two = three[:, [0, 1, 1]] * torch.tensor([1.0, 1.0, 0.0])
    assert SoftKMeans(balance=1.0)(three) + 0.3 < SoftKMeans(balance=1.0)(two)
    far = torch.cat([outputs(8).float(), torch.full((12, 1), -1e4)], dim=1)
    loss = SoftKMeans(balance=1.0)
    assert grad(loss)(far).isfinite().all()
    assert grad(lambda x: grad(loss)(x).square().sum())(far).isfinite().all()


def test_soft_k_means_refuses_what_has_no_clusters():
    with pytest.raises(ValueError, match="temperature=0"):
        SoftKMeans(0)
    with pytest.raises(ValueError, match="balance=-1"):
        SoftKMeans(balance=-1)
    with pytest.raises(ValueError, match="2 or more"):
        SoftKMeans()(torch.zeros(5, 1))
