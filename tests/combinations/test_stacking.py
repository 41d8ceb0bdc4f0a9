"""The super learner's strategy against closed forms, finite differences and known weights."""

from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from metalit import Samples
from metalit.combinations import Solver, Stacking
from metalit.learners import (
    Prototypes,
    SklearnClassifier,
    SklearnRegressor,
    SupervisedMetaLearner,
)


class Known(RegressorMixin, BaseEstimator):
    """Predicts one column of x, so that the best mixture is known."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, x, y):
        return self

    def predict(self, x):
        return x[:, self.column]


class Shares(ClassifierMixin, BaseEstimator):
    """A classifier whose probability of class 1 is a column of x."""

    def __init__(self, column=0):
        self.column = column

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        return np.stack([1 - x[:, self.column], x[:, self.column]], axis=1)

    def predict(self, x):
        return self.predict_proba(x).argmax(1)


def regression(rows=400):
    """Targets that are 0.2, 0.5 and 0.3 times the three predictions, and noise."""
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = 0.1 * torch.randn(rows, 1, generator=torch.Generator().manual_seed(1)).double()
    return Samples(x, x @ torch.tensor([[0.2], [0.5], [0.3]]).double() + noise)


def classification(rows=4000):
    """Labels drawn from a mixture, 0.7 and 0.3, of the probabilities of two classifiers."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, 2, generator=generator, dtype=torch.float64) * 0.96 + 0.02
    share = x @ torch.tensor([0.7, 0.3]).double()
    return Samples(x, (torch.rand(rows, generator=generator) < share).long())


def weigh(learners, support, combination):
    with torch.no_grad():
        return SupervisedMetaLearner(learners, combination, hidden=None).weigh(support)[1]


COLUMNS = {str(k): SklearnRegressor(Known(k)) for k in range(3)}
MIXED = {str(k): SklearnClassifier(Shares(k)) for k in range(2)}


@pytest.mark.parametrize("solver", get_args(Solver))
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_every_solver_recovers_known_weights(solver, link):
    stacking = Stacking(solver=solver, link=link, penalty=0.0)
    weights = weigh(COLUMNS, regression(), stacking).weights
    np.testing.assert_allclose(weights.numpy(), [0.2, 0.5, 0.3], atol=0.02)


@pytest.mark.parametrize("loss", ["cross_entropy", "brier", "squared_error"])
def test_every_loss_recovers_the_mixture_that_labels_were_drawn_from(loss):
    weights = weigh(MIXED, classification(), Stacking(loss=loss, penalty=0.0)).weights
    np.testing.assert_allclose(weights.numpy(), [0.7, 0.3], atol=0.08)


def test_sigmoid_weights_are_those_of_least_squares():
    support = regression()
    found = weigh(COLUMNS, support, Stacking(link="sigmoid", penalty=0.0)).weights
    expected = np.linalg.lstsq(support.x.numpy(), support.y.numpy(), rcond=None)[0][:, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_held_out_outputs_are_those_of_learners_that_have_not_seen_the_rows():
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.arange(30) % 3
    evidence = Stacking(folds=3, seed=5).observe(
        {"bayes": SklearnClassifier(GaussianNB())}, Samples(x, y)
    )
    expected = np.zeros((30, 3))
    for train, test in StratifiedKFold(3, shuffle=True, random_state=5).split(x, y):
        model = GaussianNB().fit(x[train].numpy(), y[train].numpy())
        expected[test] = model.predict_proba(x[test].numpy())
    np.testing.assert_allclose(evidence.outputs[0].numpy(), expected, atol=1e-6)


def test_a_tree_that_knows_its_training_rows_gets_no_weight_for_it():
    # labels are noise: in the sample the tree is perfect, out of it the prior is better
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    y = torch.randint(2, (200,), generator=torch.Generator().manual_seed(1))
    learners = {
        "tree": SklearnClassifier(DecisionTreeClassifier()),
        "prior": SklearnClassifier(GaussianNB()),
    }
    weighting = weigh(learners, Samples(x, y), Stacking())
    assert weighting.report["weights"]["tree"] < 0.1


@pytest.mark.parametrize("weights", ["vector", "matrix"])
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_the_gradient_to_the_prior_is_that_of_finite_differences(weights, link):
    support = classification(60)
    stacking = Stacking(weights=weights, link=link, penalty=3.0)
    evidence = stacking.observe(MIXED, support)
    query = classification(7).x

    def answer(prior):
        weighting = stacking.weigh("ab", evidence, support, prior, training=True)
        return stacking.answer(evidence, weighting, query)

    prior = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(answer, prior, eps=1e-3, atol=1e-5, rtol=1e-3)


def test_without_a_row_to_hold_out_the_weights_are_the_prior():
    support = Samples(torch.rand(2, 2), torch.tensor([0, 1]))
    stacking = Stacking()
    evidence = stacking.observe(MIXED, support)
    prior = torch.tensor([1.0, -1.0])
    weights = stacking.weigh("ab", evidence, support, prior).weights
    assert torch.allclose(weights, prior.double().softmax(0))


def test_weights_that_depend_on_the_row_find_where_each_learner_is_right():
    generator = torch.Generator().manual_seed(0)
    side = torch.randn(600, 1, generator=generator).sign()
    x = torch.randn(600, 2, generator=generator)
    y = torch.where(side > 0, x[:, :1], x[:, 1:])
    learners = {str(k): SklearnRegressor(Known(k)) for k in range(2)}
    support = Samples(torch.cat([x, side], dim=1).double(), y.double())
    plain = SupervisedMetaLearner(learners, Stacking(), hidden=None)
    gated = SupervisedMetaLearner(learners, Stacking(side_columns=[2]), hidden=None)
    with torch.no_grad():
        errors = [(m(support, support.x) - support.y).square().mean() for m in (plain, gated)]
    assert errors[1] < 0.01 < 0.3 < errors[0]


def test_a_side_table_is_hidden_from_the_base_learners():
    support = classification(40)
    wide = Samples(torch.cat([support.x, torch.zeros(40, 1).double()], dim=1), support.y)
    shapes = []

    class Watch(Shares):
        def fit(self, x, y):
            shapes.append(x.shape[1])
            return super().fit(x, y)

    weigh({"a": SklearnClassifier(Watch())}, wide, Stacking(side_columns=[2]))
    assert set(shapes) == {2}


def test_weights_that_depend_on_the_row_are_learned_from_the_labelled_rows():
    generator = torch.Generator().manual_seed(0)
    side = torch.randn(600, 1, generator=generator).sign().double()
    x = 0.02 + 0.96 * torch.rand(600, 2, generator=generator).double()
    y = (torch.where(side > 0, x[:, :1], x[:, 1:])[:, 0] > 0.5).long()
    support = Samples(torch.cat([x, side], dim=1), torch.where(torch.arange(600) < 101, -1, y))
    learner = SupervisedMetaLearner(MIXED, Stacking(side_columns=[2]), hidden=None)
    weights = [
        learner(Samples(support.x, support.y), torch.tensor([[0.9, 0.1, sign]]).double())
        for sign in (1.0, -1.0)
    ]
    assert [answer.argmax().item() for answer in weights] == [1, 0]
    assert min(answer.exp().max().item() for answer in weights) > 0.85


def test_a_gate_learns_from_a_side_column_of_the_task_which_learner_to_trust():
    torch.manual_seed(0)
    learners = {str(k): SklearnRegressor(Known(k)) for k in range(2)}
    # two rows a task: too few to cross-validate, so that the gate alone can know
    learner = SupervisedMetaLearner(learners, Stacking(side_columns=[2]), hidden=0)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.1)

    def task(kind):
        x = torch.randn(6, 2).double()
        x = torch.cat([x, torch.full((6, 1), kind).double()], dim=1)
        y = x[:, :1] if kind > 0 else x[:, 1:2]
        return Samples(x[:2], y[:2]), x[2:], y[2:]

    for step in range(60):
        support, query, target = task(1.0 if step % 2 else -1.0)
        loss = (learner(support, query) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for kind, right in ((1.0, "0"), (-1.0, "1")):
        assert learner.weigh(task(kind)[0])[1].report["weights"][right] > 0.9


def test_the_side_table_of_a_task_describes_it_beside_what_base_learners_see():
    support, stacking = classification(40), Stacking(side_columns=[2])
    wide = Samples(torch.cat([support.x, torch.full((40, 1), 0.7).double()], dim=1), support.y)
    described = stacking.describe(wide)
    assert described.shape == (stacking.n_descriptors,)
    assert torch.equal(described[:-1], Stacking().describe(support))
    assert float(described[-1]) == pytest.approx(0.7)


def test_row_descriptors_come_from_the_transformer():
    support = classification(60)
    learner = SupervisedMetaLearner(MIXED, Stacking(row_descriptors=PCA(1)), hidden=None)
    with torch.no_grad():
        assert learner(support, support.x[:5]).shape == (5, 2)


def test_the_combination_must_beat_the_best_single_learner_by_the_margin_and_the_test():
    easy = weigh(COLUMNS, regression(), Stacking(alpha=0.01))
    assert easy.report["kept"] == "combination"
    assert easy.report["p_value"] < 0.01
    assert easy.report["gain"] > 0.1
    strict = weigh(COLUMNS, regression(), Stacking(margin=10.0))
    assert strict.report["kept"] == "1"  # the column with the largest share
    assert strict.weights.tolist() == [0, 1, 0]
    assert "is not lower than" in strict.report["why"]
    # a single learner and its twin: the mixture of both is no better than one
    twins = weigh({"a": COLUMNS["0"], "b": COLUMNS["0"]}, regression(), Stacking(alpha=0.05))
    assert twins.report["kept"] == "a"


def test_only_one_learner_answers_where_the_combination_was_not_kept():
    support = regression()
    with torch.no_grad():
        learner = SupervisedMetaLearner(COLUMNS, Stacking(margin=10.0), hidden=None)
        assert torch.equal(learner(support, support.x), support.x[:, 1:2])


def test_penalty_draws_the_weights_to_the_prior():
    support = classification(100)
    weak, strong = (
        weigh(MIXED, support, Stacking(penalty=p, margin=0.0)).report["weights"]["0"]
        for p in (0.01, 1e6)
    )
    assert abs(strong - 0.5) < 1e-3 < abs(weak - 0.5)


def test_a_class_of_one_member_does_not_stop_the_folds():
    x = torch.randn(13, 2, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0] * 6 + [1] * 6 + [2])
    learner = SupervisedMetaLearner({"bayes": SklearnClassifier(GaussianNB())})
    with torch.no_grad():
        assert learner(Samples(x, y), x).shape == (13, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "scalar"}, "weights='scalar' is unknown: choose from"),
        ({"solver": "newton"}, "solver='newton' is unknown: choose from"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"alpha": 0.0}, r"alpha in \(0, 1\]"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        Stacking(**arguments)


def test_a_loss_of_classes_refuses_targets():
    with pytest.raises(ValueError, match="is for classes but the episode has float targets"):
        Stacking(loss="brier").observe({"r": SklearnRegressor(Ridge())}, regression(20))


def test_a_side_column_is_hidden_from_the_base_learners_in_the_answer_too():
    support = classification(40)
    side = torch.linspace(-1, 1, 40)[:, None].double()
    wide = Samples(torch.cat([side, support.x], dim=1), support.y)
    with torch.no_grad():
        plain = SupervisedMetaLearner(MIXED, Stacking(alpha=1), hidden=None)
        gated = SupervisedMetaLearner(MIXED, Stacking(alpha=1, side_columns=[0], penalty=1e9))
        answers = plain(support, support.x), gated.eval()(wide, wide.x)
    single = [MIXED[name](support, support.x) for name in MIXED]
    for answer in answers:  # no mixture of other columns gives these
        low, high = torch.stack(single).exp().aminmax(dim=0)
        assert bool((answer.exp() >= low - 1e-6).all())
        assert bool((answer.exp() <= high + 1e-6).all())


def test_landmarks_are_the_relative_loss_and_the_accuracy():
    support = classification(500)
    evidence = Stacking(seed=1).observe(MIXED, support)
    losses = []
    for column in (0, 1):
        share = support.x[:, column]
        right = torch.where(support.y == 1, share, 1 - share)
        losses.append(-right.log().mean().item())
        accuracy = ((share > 0.5) == support.y).double().mean().item()
        assert evidence.landmarks[column, 1].item() == pytest.approx(accuracy)
    relative = np.array(losses) / np.mean(losses) - 1
    np.testing.assert_allclose(evidence.landmarks[:, 0], relative, atol=1e-6)
    assert relative[0] < 0 < relative[1]  # the first has the larger share in the truth


def test_the_landmark_of_a_regressor_is_its_share_of_explained_variance():
    support = regression()
    landmarks = Stacking().observe(COLUMNS, support).landmarks
    for column in range(3):
        error = (support.x[:, column] - support.y[:, 0]).square().mean()
        expected = 1 - error / support.y.var(correction=0)
        assert landmarks[column, 1].item() == pytest.approx(max(expected.item(), -1))


def test_something_that_is_trained_sees_what_all_weights_do():
    torch.manual_seed(0)
    support = classification(60)
    learners = {"sure": MIXED["0"], "trained": Prototypes(nn.Linear(2, 2).double())}
    learner = SupervisedMetaLearner(learners, Stacking(margin=10.0), hidden=None)
    loss = nn.functional.cross_entropy(learner(support, support.x), support.y)
    loss.backward()
    assert float(learners["trained"].network.weight.grad.abs().max()) > 0
    assert learner.weigh(support)[1].report["kept"] == "combination"
    assert learner.eval().weigh(support)[1].report["kept"] in learners


def test_the_seed_decides_the_folds():
    support = classification(40)
    first, again, other = (
        Stacking(seed=seed).observe(MIXED, support).state[0].fold for seed in (0, 0, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
