"""Prototypical networks: against numpy and scikit-learn, gradients, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.neighbors import NearestCentroid
from torch import nn

from metalit import Samples
from metalit.learners import Prototypes
from metalit.networks import MLP


@pytest.fixture
def task():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(17, 4, generator=draw, dtype=torch.float64)
    y = torch.tensor([2, 0, 1, 1, 0, 2, 1, 0, 2, 1])
    return Samples(x[:10], y), x[10:]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return MLP(4, 8, 5, nn.Tanh()).double()


def test_euclidean_logits_equal_three_lines_of_numpy(task, network):
    support, query = task
    z, q = (network(x).detach().numpy() for x in (support.x, query))
    means = np.stack([z[support.y.numpy() == label].mean(axis=0) for label in range(3)])
    expected = -((q[:, None] - means) ** 2).sum(axis=2) / 0.7
    outputs = Prototypes(network, temperature=0.7)(support, query)
    np.testing.assert_allclose(outputs.detach().numpy(), expected, rtol=1e-12)


def test_cosine_logits_equal_three_lines_of_numpy(task, network):
    support, query = task
    z, q = (network(x).detach().numpy() for x in (support.x, query))
    means = np.stack([z[support.y.numpy() == label].mean(axis=0) for label in range(3)])
    lengths = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(means, axis=1)
    outputs = Prototypes(network, "cosine", temperature=0.1)(support, query)
    np.testing.assert_allclose(outputs.detach().numpy(), q @ means.T / lengths / 0.1, rtol=1e-12)


def test_without_an_embedding_it_is_the_nearest_centroid_of_scikit_learn():
    x, y = load_iris(return_X_y=True)
    expected = NearestCentroid().fit(x[::2], y[::2]).predict(x[1::2])
    support = Samples(torch.from_numpy(x[::2]), torch.from_numpy(y[::2]))
    outputs = Prototypes(nn.Identity())(support, torch.from_numpy(x[1::2]))
    assert outputs.argmax(dim=1).tolist() == expected.tolist()


def test_relabelling_the_classes_permutes_the_logits(task, network):
    support, query = task
    order = torch.tensor([2, 0, 1])
    learner = Prototypes(network)
    relabelled = learner(support._replace(y=order[support.y]), query)
    torch.testing.assert_close(relabelled[:, order], learner(support, query))


def test_rows_without_a_label_are_never_seen_by_the_network(task):
    support, query = task
    images = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False)).double()
    learner = Prototypes(images)  # batch norm: one row more would change all others
    x = torch.cat([support.x, 100 * query])
    y = torch.cat([support.y, torch.full((len(query),), -1)])
    assert torch.equal(learner(Samples(x, y), query), learner(support, query))


def test_a_class_without_a_row_is_improbable_but_its_loss_finite(task, network):
    support, query = task
    kept = support.y != 1
    learner = Prototypes(network)
    outputs = learner(Samples(support.x[kept], support.y[kept]), query)
    torch.testing.assert_close(outputs[:, [0, 2]], learner(support, query)[:, [0, 2]])
    shares = outputs.softmax(dim=1)[:, 1]
    torch.testing.assert_close(shares, torch.full_like(shares, 1e-7), rtol=1e-5, atol=0)
    nn.functional.cross_entropy(outputs, torch.ones(len(query), dtype=torch.int64)).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_first_and_second_derivatives_equal_finite_differences(task, distance):
    support, query = task
    learner = Prototypes(nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double(), distance)
    names, values = zip(*learner.network.named_parameters(), strict=True)

    def outputs(x, *parameters):
        given = {f"network.{n}": p for n, p in zip(names, parameters, strict=True)}
        return torch.func.functional_call(learner, given, (Samples(x, support.y), query[:2]))

    inputs = (support.x[:4].clone().requires_grad_(), *values)
    support = support._replace(y=torch.tensor([0, 1, 2, 1]))
    assert torch.autograd.gradcheck(outputs, inputs)
    assert torch.autograd.gradgradcheck(outputs, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_predictor_comes_back_from_a_pickle_and_answers_the_same(task, network, dtype):
    support, query = task
    learner, query = Prototypes(network).to(dtype), query.to(dtype)
    support = support._replace(x=support.x.to(dtype))
    with torch.no_grad():
        predictor = pickle.loads(pickle.dumps(learner.learn(support)))
        outputs = predictor(query)
        assert outputs.dtype == dtype
        assert torch.equal(outputs, learner(support, query))


def test_training_separates_classes_that_raw_distances_do_not():
    draw = torch.Generator().manual_seed(0)

    def episode():  # 1 feature says the class, 9 are loud noise
        y = torch.arange(3).repeat(10)
        x = torch.randn(30, 10, generator=draw) * 5
        x[:, 0] = y + 0.1 * torch.randn(30, generator=draw)
        return Samples(x[:15], y[:15]), Samples(x[15:], y[15:])

    torch.manual_seed(0)
    learner = Prototypes(nn.Linear(10, 4))
    optimizer = torch.optim.Adam(learner.parameters(), 0.03)
    for _ in range(200):
        support, query = episode()
        optimizer.zero_grad()
        nn.functional.cross_entropy(learner(support, query.x), query.y).backward()
        optimizer.step()
    raw, trained = 0.0, 0.0
    for _ in range(20):
        support, query = episode()
        raw += (Prototypes(nn.Identity())(support, query.x).argmax(1) == query.y).float().mean()
        trained += (learner(support, query.x).argmax(1) == query.y).float().mean()
    assert raw / 20 < 0.6
    assert trained / 20 > 0.9


@pytest.mark.parametrize(
    ("y", "network", "message"),
    [
        (torch.zeros(3, 1), nn.Linear(4, 2), "float targets: take MAML or a SklearnRegressor"),
        (torch.full((3,), -1), nn.Linear(4, 2), r"has none \(all are -1\): label it"),
        (torch.arange(3), nn.Linear(5, 2), r"Linear cannot take samples of shape \(4,\)"),
        (torch.arange(3), nn.Unflatten(1, (2, 2)), r"\(3, 2, 2\) for 3 samples .* flatten"),
    ],
    ids=["targets", "no label", "features", "not flat"],
)
def test_an_episode_that_does_not_fit_is_refused(y, network, message):
    with pytest.raises(ValueError, match=message):
        Prototypes(network).check(Samples(torch.zeros(3, 4), y))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distance": "manhattan"}, "'manhattan' is unknown: use 'euclidean' or 'cosine'"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"temperature": float("nan")}, "temperature=nan must be positive"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Prototypes(nn.Identity(), **arguments)
