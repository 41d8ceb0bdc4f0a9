import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from sklearn.cluster import KMeans
from torch import nn

from metalit import Samples
from metalit.learners import EmbeddedKMeans, Prototypes
from metalit.learners._k_means import (
    assign,
    draw_starts,
    fit_centres,
    free_energy,
    squared_distances,
)
from metalit.losses import MatchedCrossEntropy, SoftAdjustedRand
from metalit.metrics import MatchedAccuracy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def unlabelled(x):
    return Samples(x, torch.full((len(x),), -1))


def blobs(sizes, spread=0.3, seed=0):
    """Rows around the corners of a simplex, in random order, and the corner of each."""
    y = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    y = y[torch.randperm(len(y), generator=generator(seed))]
    corners = 5 * torch.eye(len(sizes), dtype=torch.float64)
    return corners[y] + spread * normal(len(y), len(sizes), seed=seed), y


def accuracy(outputs, y):
    return MatchedAccuracy()(outputs[None], y[None]).item()


def plan(cost, price, temperature):
    return ((price - cost) / temperature).softmax(-1)


# assignments


def test_balanced_clusters_are_chosen_equally_often():
    cost = normal(30, 4).square()
    price = assign(cost, 0.5, balanced=True, iterations=200)
    sums = plan(cost, price, 0.5).sum(0)
    torch.testing.assert_close(sums, torch.full((4,), 7.5, dtype=torch.float64))


def test_prices_of_two_clusters_solve_the_one_equation_that_there_is():
    # sum_i sigmoid((price - gap_i) / t) = N / 2, by bisection
    cost, temperature = normal(9, 2).square(), 0.3
    gap = (cost[:, 1] - cost[:, 0]).numpy()
    low, high = -50.0, 50.0
    for _ in range(200):
        middle = (low + high) / 2
        total = (1 / (1 + np.exp(-(middle - gap) / temperature))).sum()
        low, high = (middle, high) if total < 4.5 else (low, middle)
    price = assign(cost, temperature, balanced=True, iterations=2000)[0]
    assert (price[1] - price[0]).item() == pytest.approx(middle, abs=1e-9)


def test_at_a_low_temperature_the_plan_is_the_optimum_of_the_transport_problem():
    cost = normal(6, 3).square()
    rows = np.kron(np.eye(6), np.ones(3))
    columns = np.kron(np.ones(6), np.eye(3))
    best = linprog(
        cost.numpy().ravel(), A_eq=np.vstack([rows, columns]), b_eq=[1.0] * 6 + [2.0] * 3
    )
    price = assign(cost, 0.01, balanced=True, iterations=2000)
    found = plan(cost, price, 0.01)
    assert (found * cost).sum().item() == pytest.approx(best.fun, abs=1e-3)
    np.testing.assert_allclose(found.numpy(), best.x.reshape(6, 3), atol=1e-2)


def test_without_balance_all_prices_are_zero():
    assert not assign(normal(5, 3), 0.5, balanced=False, iterations=10).any()


def test_a_low_temperature_neither_overflows_nor_gives_nan():
    cost = 100 * normal(8, 4).square()
    assert assign(cost.float(), 1e-3, balanced=True, iterations=50).isfinite().all()


def test_distances_are_those_of_torch_and_never_negative():
    z, centres = normal(7, 3), normal(2, 4, 3, seed=1)
    torch.testing.assert_close(squared_distances(z, centres), torch.cdist(z, centres).square())
    assert (squared_distances(z.float() + 1000, z.float() + 1000) >= 0).all()


# centres


@pytest.mark.parametrize("balanced", [True, False])
def test_every_step_lowers_the_free_energy(balanced):
    z, _ = blobs([8, 8, 8], spread=2.0)
    energies = []
    for steps in range(8):
        ends = fit_centres(z, z[:3], 1.0, balanced, 100, steps)
        energies.append(free_energy(z, *ends, 1.0).item())
    assert all(after <= before + 1e-9 for before, after in pairwise(energies))
    assert energies[-1] < energies[0] - 0.1


def test_the_free_energy_of_equal_prices_is_that_of_a_partition_function():
    z, centres = normal(9, 2), normal(3, 2, seed=1)
    cost = torch.cdist(z, centres).square()
    expected = -0.7 * (-cost / 0.7).logsumexp(1).mean()
    torch.testing.assert_close(free_energy(z, centres, z.new_zeros(1, 3), 0.7), expected)


@pytest.mark.parametrize("balanced", [True, False])
def test_after_many_steps_centres_are_the_means_of_what_chooses_them(balanced):
    z, _ = blobs([6, 6, 6], spread=1.0)
    centres, price = fit_centres(z, z[:3], 0.5, balanced, 30, 100)
    p = plan(squared_distances(z, centres), price, 0.5)
    torch.testing.assert_close(p.T @ z / p.sum(0)[:, None], centres)


def test_at_a_low_temperature_without_balance_it_is_lloyds_algorithm():
    z, _ = blobs([9, 5, 7], spread=2.0)
    expected = KMeans(3, init=z[:3].numpy(), n_init=1, tol=0, algorithm="lloyd").fit(z.numpy())
    centres, price = fit_centres(z, z[:3], 1e-4, False, 1, 100)
    np.testing.assert_allclose(centres.numpy(), expected.cluster_centers_, atol=1e-8)
    energy = free_energy(z, centres, price, 1e-4).item()
    assert energy * len(z) == pytest.approx(expected.inertia_, rel=1e-3)


def test_several_starts_at_once_end_where_each_ends_alone():
    z, _ = blobs([6, 6, 6], spread=1.0)
    rows = draw_starts(z, 3, 4, generator())
    together = fit_centres(z, z[rows], 0.5, True, 10, 5)
    for r in range(4):
        for part, alone in zip(together, fit_centres(z, z[rows[r]], 0.5, True, 10, 5), strict=True):
            torch.testing.assert_close(part[r], alone)


def test_first_centres_of_separated_blobs_are_one_a_blob():
    z, y = blobs([10, 10, 10, 10], spread=0.01)
    rows = draw_starts(z, 4, 20, generator())
    assert (y[rows].sort(1).values == torch.arange(4)).all()


def test_first_centres_of_equal_rows_repeat():
    assert draw_starts(torch.ones(3, 2), 5, 2, generator()).shape == (2, 5)


# the learner


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
def test_it_finds_separated_clusters(balanced, normalized):
    x, y = blobs([7, 7, 7, 7])
    learner = EmbeddedKMeans(nn.Identity(), 4, balanced, normalized=normalized).eval()
    assert accuracy(learner(unlabelled(x), x), y) == 1.0


def test_balance_keeps_clusters_apart_that_an_outlier_makes_k_means_join():
    left, right = normal(10, 1) * 0.5, normal(10, 1, seed=1) * 0.5 + 4
    right[0] = 20.0
    x, y = torch.cat([left, right]), torch.arange(2).repeat_interleave(10)
    free, equal = (
        EmbeddedKMeans(nn.Identity(), 2, balanced, temperature=4.0, normalized=False).eval()
        for balanced in (False, True)
    )
    assert accuracy(free(unlabelled(x), x), y) < 0.6
    assert accuracy(equal(unlabelled(x), x), y) == 1.0
    sizes = equal(unlabelled(x), x).exp().sum(0)
    torch.testing.assert_close(sizes, torch.full_like(sizes, 10.0), rtol=0, atol=0.1)


def test_rows_in_another_order_get_the_same_clusters():
    x, _ = blobs([6, 6, 6])
    order = torch.randperm(18, generator=generator(3))
    learner = EmbeddedKMeans(nn.Identity(), 3).eval()
    one, other = learner(unlabelled(x), x), learner(unlabelled(x[order]), x[order])
    assert accuracy(other, one.argmax(1)[order]) == 1.0


def test_outputs_are_log_probabilities_and_a_query_row_is_answered_alone():
    x, _ = blobs([6, 6, 6], spread=2.0)
    learner = EmbeddedKMeans(nn.Identity(), 3, temperature=1.0).eval()
    outputs = learner(unlabelled(x), x)
    torch.testing.assert_close(outputs.exp().sum(1), torch.ones(18, dtype=torch.float64))
    torch.testing.assert_close(learner(unlabelled(x), x[4:5]), outputs[4:5])


def test_more_starts_never_end_higher():
    x, _ = blobs([5] * 6, spread=2.0)
    energies = []
    for starts in (1, 5, 25):
        learner = EmbeddedKMeans(nn.Identity(), 6, temperature=1.0, normalized=False, starts=starts)
        energies.append(free_energy(x, *learner._cluster(x), 1.0).item())
    assert energies[0] >= energies[1] - 1e-3 >= energies[2] - 2e-3


def test_support_labels_are_not_looked_at_in_evaluation():
    x, y = blobs([6, 6, 6])
    learner = EmbeddedKMeans(nn.Identity(), 3).eval()
    assert torch.equal(learner(Samples(x, y), x), learner(unlabelled(x), x))


def test_trained_on_labels_it_is_a_prototypical_network():
    x, y = blobs([4, 4, 4])
    torch.manual_seed(0)
    network = nn.Linear(3, 5).double()
    learner = EmbeddedKMeans(network, n_clusters=2, temperature=0.7, normalized=False).train()
    expected = Prototypes(network, temperature=0.7)(Samples(x, y), x).log_softmax(1)
    torch.testing.assert_close(learner(Samples(x, y), x), expected)
    normalized = EmbeddedKMeans(network, n_clusters=2, temperature=0.5).train()
    cosine = Prototypes(network, "cosine", temperature=0.25)
    support = Samples(x[:3], torch.arange(3))
    torch.testing.assert_close(normalized(support, x), cosine(support, x).log_softmax(1))


@pytest.mark.parametrize("balanced", [True, False])
def test_the_gradient_through_the_clusters_equals_finite_differences(balanced):
    x, y = blobs([4, 4, 4], spread=2.0)
    torch.manual_seed(0)
    learner = EmbeddedKMeans(
        nn.Linear(3, 2).double(), 3, balanced, 1.0, train_on="clusters", starts=1, steps=3
    ).train()
    names, values = zip(*learner.named_parameters(), strict=True)

    def loss(*parameters):
        given = dict(zip(names, parameters, strict=True))
        outputs = torch.func.functional_call(learner, given, (unlabelled(x), x))
        return SoftAdjustedRand()(outputs, y)

    assert torch.autograd.gradcheck(loss, values)


def test_training_through_the_clusters_finds_the_columns_that_matter():
    def episode(seed):  # 2 columns tell the class, 4 are loud noise
        y = torch.arange(3).repeat(8)
        angle = 2 * math.pi * y / 3
        x = 4 * normal(24, 6, seed=seed)
        x[:, :2] = 3 * torch.stack([angle.cos(), angle.sin()], 1) + 0.2 * normal(24, 2, seed=seed)
        return x, y

    torch.manual_seed(0)
    learner = EmbeddedKMeans(
        nn.Linear(6, 3).double(), 3, temperature=0.5, train_on="clusters", starts=2, steps=4
    )
    untrained = np.mean([accuracy(learner(unlabelled(x), x), y) for x, y in map(episode, range(8))])
    optimizer = torch.optim.Adam(learner.parameters(), 0.05)
    for seed in range(100, 160):
        x, y = episode(seed)
        optimizer.zero_grad()
        MatchedCrossEntropy()(learner(unlabelled(x), x), y).backward()
        optimizer.step()
    trained = np.mean([accuracy(learner(unlabelled(x), x), y) for x, y in map(episode, range(8))])
    assert untrained < 0.7
    assert trained > 0.9


def test_a_support_set_that_does_not_fit_is_refused():
    learner = EmbeddedKMeans(nn.Linear(4, 2), 3)
    with pytest.raises(ValueError, match=r"has none \(all are -1\)"):
        learner.check(unlabelled(torch.zeros(5, 4)))
    with pytest.raises(ValueError, match="has 2 rows but n_clusters=3: give more rows"):
        learner.eval().check(unlabelled(torch.zeros(2, 4)))
    with pytest.raises(ValueError, match=r"Linear cannot take samples of shape \(5,\)"):
        learner.eval().check(unlabelled(torch.zeros(6, 5)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"temperature": math.nan}, "temperature=nan must be positive"),
        ({"train_on": "nothing"}, "'nothing' is unknown: use 'labels' or 'clusters'"),
        ({"n_clusters": 0}, "n_clusters=0 must be at least 1"),
        ({"starts": 0}, "starts=0 must be at least 1"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"iterations": 0}, "iterations=0 must be at least 1"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        EmbeddedKMeans(nn.Identity(), **{"n_clusters": 3, **arguments})
