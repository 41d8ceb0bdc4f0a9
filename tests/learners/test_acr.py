"""ACR and its network: against torch's batch norm, and what it does not depend on."""

import pytest
import torch
from torch import nn

from metalit import Samples
from metalit.learners import ACR
from metalit.losses import BinaryCrossEntropy
from metalit.metrics import AUROC
from metalit.networks import ContextMLP
from metalit.tasks import OutlierTasks


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ContextMLP(3, [7, 5], 4).double()


@pytest.fixture
def rows():
    return torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_query_that_is_the_context_is_batch_norm_in_training_mode(network, rows):
    modules = [nn.BatchNorm1d(3, affine=False)]
    for layer in network.layers:
        modules += [layer, nn.BatchNorm1d(layer.out_features), nn.ReLU()]
    expected = nn.Sequential(*modules, network.head).double().train()(rows)
    assert torch.allclose(network(rows, rows), expected)


def test_a_row_is_mapped_alike_whatever_is_beside_it(network, rows):
    query = rows[:5] + 1
    assert torch.allclose(network(rows, query)[:2], network(rows, query[:2]))
    assert not torch.allclose(network(rows[:10], query), network(rows, query))


def test_units_and_origins_of_columns_change_nothing(network, rows):
    moved = rows * torch.tensor([2.0, 30.0, 0.5]) - 7
    assert torch.allclose(network(moved, moved), network(rows, rows), atol=1e-3)


def test_the_score_is_the_logarithm_of_the_squared_distance_to_the_centre(network, rows):
    learner = ACR(network).double()
    outputs = learner(Samples(rows, torch.zeros(20)), rows[:4])
    distances = (network(rows, rows[:4]) - learner.sphere.centre).norm(dim=1)
    radius = learner.sphere.log_radius.exp()
    assert torch.allclose(outputs.squeeze(1), 2 * (distances / radius).log(), atol=1e-6)


def test_gradients_reach_every_parameter_through_the_statistics(network, rows):
    learner = ACR(network).double()
    learner(Samples(rows, torch.zeros(20)), rows[:4] * 2).sum().backward()
    assert all(bool((p.grad != 0).any()) for p in learner.parameters())


def test_training_on_other_tasks_finds_anomalies_of_new_ones():
    torch.manual_seed(0)
    tasks = OutlierTasks(contamination=0.5)
    columns = tasks.sample(torch.Generator()).query.x.shape[1]
    learner = ACR(ContextMLP(columns, [32], 8))
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)

    def score(seed):
        episode = tasks.sample(torch.Generator().manual_seed(seed))
        return learner(episode.support, episode.query.x), episode.query.y

    def areas():
        found = [score(seed) for seed in range(1000, 1030)]
        return torch.cat([AUROC()(s[None], y[None]) for s, y in found]).mean()

    before = areas()
    for seed in range(120):
        optimizer.zero_grad()
        BinaryCrossEntropy()(*score(seed)).backward()
        optimizer.step()
    assert areas() > before + 0.05


def test_what_does_not_fit_is_refused_in_one_line(network, rows):
    with pytest.raises(ValueError, match="hidden=\\[\\], out_features=2: give a hidden layer"):
        ContextMLP(3, [], 2)
    with pytest.raises(ValueError, match="got 20 rows of 2 numbers but the network takes 3"):
        ACR(network).check(Samples(rows[:, :2], torch.zeros(20)))
    with pytest.raises(ValueError, match="got 1 rows of 3 numbers"):
        ACR(network).check(Samples(rows[:1], torch.zeros(1)))
