"""Cross-validation inside a task: which rows are learned from, and whose answers they are."""

import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.naive_bayes import GaussianNB
from torch import nn

from metalit import Samples
from metalit.combinations.folds import held_out, widen
from metalit.learners import FineTuned, Learner, SklearnClassifier, SklearnRegressor
from metalit.networks import MLP


class Echo(Learner):
    """Answers with the inputs themselves, and remembers what it was asked after learning what."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, support, query):
        return self.learn(support)(query)

    def learn(self, support):
        def predict(query):
            self.seen.append((support, query))
            return query

        return predict


def task(rows=30):
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(rows) % 3
    return Samples(x, torch.where(torch.arange(rows) % 5 == 1, -1, y))


def test_rows_are_answered_by_learners_that_have_not_seen_them():
    support, echo = task(), Echo()
    trials = held_out({"echo": echo}, support, 4, seed=0)
    labelled = (support.y >= 0).nonzero()[:, 0]
    assert torch.equal(trials.rows, labelled)
    assert torch.equal(trials.y, support.y[labelled])
    torch.testing.assert_close(trials.outputs[0], support.x[labelled].softmax(dim=1))
    assert len(echo.seen) == 4
    for number, (known, asked) in enumerate(echo.seen):
        assert torch.equal(asked, support.x[labelled][trials.fold == number])
        rest = trials.fold != number
        assert torch.equal(known.x, support.x[labelled][rest])
        assert torch.equal(known.y, support.y[labelled][rest])


def test_folds_have_all_classes_and_their_seed_decides():
    first, again, other = (held_out({"e": Echo()}, task(), 4, seed=s).fold for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    y = task().y
    for number in range(4):
        assert set(y[y >= 0][first == number].tolist()) == {0, 1, 2}


def test_a_network_may_have_more_outputs_than_there_are_labels():
    network = FineTuned(MLP(3, 4, 5).double(), nn.CrossEntropyLoss(), epochs=1)
    learners = {"wide": network, "narrow": SklearnClassifier(GaussianNB())}
    outputs = held_out(learners, task(), 3, seed=0).outputs
    assert outputs.shape == (2, 24, 5)
    torch.testing.assert_close(outputs.sum(dim=2), torch.ones(2, 24).double())
    assert float(outputs[1, :, 3:].max()) == 0


def test_added_columns_have_no_probability():
    one, three = widen([torch.zeros(2, 1), torch.zeros(2, 3)], least=4)
    assert one.softmax(dim=1)[0].tolist() == [1, 0, 0, 0]
    assert three.softmax(dim=1)[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_a_base_learner_that_refuses_is_named():
    learners = {"fine": Echo(), "picky": SklearnRegressor(Picky())}
    x = torch.randn(8, 1)
    with pytest.raises(ValueError, match="base learner 'picky': too few"):
        held_out(learners, Samples(x, x), 4, seed=0)


class Picky(RegressorMixin, BaseEstimator):
    def fit(self, x, y):
        raise ValueError("too few")

    def predict(self, x):
        return x


def test_a_support_set_without_a_label_is_refused_in_one_line():
    support = Samples(torch.randn(6, 2), torch.full((6,), -1))
    with pytest.raises(ValueError, match=r"has no label .* label it, or take Consensus"):
        held_out({"e": Echo()}, support, 3, seed=0)
