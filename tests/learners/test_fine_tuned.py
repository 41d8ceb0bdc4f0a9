"""Fine-tuning: against a loop written by hand, what it leaves alone, and what it refuses."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from metalit import Samples
from metalit.learners.fine_tuned import FineTuned
from metalit.networks import MLP, Conv4


@pytest.fixture
def task():
    """Ten rows of three classes, the last without a label, and seven queries."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(17, 4, generator=draw, dtype=torch.float64)
    return Samples(x[:10], torch.tensor([2, 0, 1, 1, 0, 2, 1, 0, 2, -1])), x[10:]


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)]
    return nn.Sequential(*layers).double()


class ScaledCrossEntropy(nn.Module):
    """A loss with a parameter, which some outer loop may train."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, outputs, y):
        return nn.functional.cross_entropy(self.scale * outputs, y)


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def test_the_weights_are_bit_by_bit_those_of_a_loop_written_by_hand(task, network):
    support, query = task
    reference = copy.deepcopy(network).train()
    optimizer = SGD(reference.parameters())
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for _ in range(3):
            order = torch.randperm(9)
            for rows in (order[:3], order[3:6], order[6:]):  # nine labelled rows, at most four
                loss = nn.functional.cross_entropy(reference(support.x[rows]), support.y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    reference.eval()
    learner = FineTuned(network, nn.CrossEntropyLoss(), SGD, epochs=3, batch_size=4, seed=7)
    outputs = learner(support, query)
    assert torch.equal(outputs, reference(query))
    weights = learner.learn(support).args[0].state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in reference.state_dict().items())


def test_targets_are_learned_by_regression():
    x = torch.linspace(-1, 1, 50)[:, None]
    torch.manual_seed(0)
    learner = FineTuned(MLP(1, 32, 2), nn.MSELoss(), partial(torch.optim.Adam, lr=0.01), epochs=100)
    y = torch.cat([x.square(), -x], dim=1)
    learner.check(Samples(x, y))
    assert nn.functional.mse_loss(learner(Samples(x, y), x), y) < 1e-3


def test_nothing_that_was_given_changes_and_no_gradient_flows_out(task, network):
    support, query = task
    query.requires_grad_()
    loss = ScaledCrossEntropy()
    given, torch_state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    learner = FineTuned(network, loss, SGD, epochs=1)
    outputs = learner(support, query)
    assert not outputs.requires_grad
    assert loss.scale.grad is None
    assert learner.inner_loss.scale.grad is None
    assert not any(value.requires_grad for value in learner.parameters())
    assert all(value.requires_grad for value in network.parameters())
    for state in (network.state_dict(), learner.network.state_dict()):
        assert all(torch.equal(value, given[key]) for key, value in state.items())
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_it_learns_where_gradients_are_off(task, network):
    learner = FineTuned(network, nn.CrossEntropyLoss(), SGD)
    expected = learner(*task)
    with torch.no_grad():
        assert torch.equal(learner.eval()(*task), expected)


def test_the_seed_decides_alone(task, network):
    learners = [FineTuned(network, nn.CrossEntropyLoss(), SGD, seed=seed) for seed in (0, 0, 1)]
    first = learners[0](*task)
    torch.manual_seed(5)
    assert torch.equal(learners[1](*task), first)
    assert not torch.equal(learners[2](*task), first)


def test_adapt_trains_the_head_alone(task):
    torch.manual_seed(0)
    network = MLP(4, 8, 3).double()
    learner = FineTuned(network, nn.CrossEntropyLoss(), SGD, adapt="head.*")
    tuned = learner.learn(task[0]).args[0].state_dict()
    same = {key: torch.equal(value, tuned[key]) for key, value in network.state_dict().items()}
    assert same == {key: key.startswith("encoder") for key in same}


def test_what_was_learned_can_be_pickled(task, network):
    support, query = task
    predictor = FineTuned(network, nn.CrossEntropyLoss(), SGD).learn(support)
    assert torch.equal(pickle.loads(pickle.dumps(predictor))(query), predictor(query))


def test_a_row_is_judged_alone_where_batch_norm_tracks_running_statistics():
    torch.manual_seed(0)
    x, y = torch.rand(65, 3, 9, 9), torch.arange(65) % 2  # two batches of 33 and 32 rows, not of 64
    networks = [Conv4(3, 2, 9, 8, 2, track_running_stats=tracks) for tracks in (False, True)]
    for network, alone in zip(networks, (False, True), strict=True):
        predictor = FineTuned(network, nn.CrossEntropyLoss(), epochs=2).learn(Samples(x, y))
        parts = torch.cat([predictor(x[:1]), predictor(x[1:])])
        assert torch.allclose(predictor(x), parts, atol=1e-5) == alone


def test_a_last_batch_of_one_row_is_dealt_out_to_the_others(task, network):
    support, query = task
    rows = Samples(support.x[:9], support.y[:9])
    outputs = FineTuned(network, nn.CrossEntropyLoss(), batch_size=8)(rows, query)
    assert outputs.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"epochs": 0}, "epochs=0, batch_size=64: both should be at least 1"),
        ({"batch_size": 0}, "batch_size=0: both should be at least 1"),
        ({"adapt": "body.*"}, r"adapt='body\.\*' matches no parameter of MLP: .*head\.weight"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        FineTuned(MLP(4, 8, 3), nn.CrossEntropyLoss(), **arguments)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([-1, -1], "FineTuned needs labels but the support set has none"),
        ([0, 5], "MLP returns 3 outputs but the episode has way=6"),
        ([[0.5], [1.0]], r"MLP returns 3 outputs but the targets of the episode have shape \(2, 1"),
    ],
)
def test_a_support_set_that_does_not_fit_is_refused(y, expected):
    learner = FineTuned(MLP(4, 8, 3), nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=expected):
        learner.check(Samples(torch.zeros(2, 4), torch.tensor(y)))


def test_checking_leaves_running_statistics_alone(task, network):
    learner = FineTuned(network, nn.CrossEntropyLoss())
    before = copy.deepcopy(learner.state_dict())
    learner.check(task[0])
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())
