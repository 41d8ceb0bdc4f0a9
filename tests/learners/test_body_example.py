"""The founding example: height, weight and age tell the sex, by a tree, an SVM and a network."""

import pytest
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from torch.nn.functional import cross_entropy

from metalit import Samples
from metalit.datasets.body import BodyMeasurements
from metalit.learners import SklearnClassifier, SupervisedMetaLearner


def make_learner():
    network = MLPClassifier((8,), solver="lbfgs", alpha=1.0)
    return SupervisedMetaLearner(
        {
            "tree": SklearnClassifier(DecisionTreeClassifier(min_samples_leaf=10)),
            "svm": SklearnClassifier(SVC(), StandardScaler()),
            "network": SklearnClassifier(network, StandardScaler()),
        },
        hidden=None,
    ).eval()


@pytest.fixture(scope="module", params=[0, 1, 3])
def example(request):
    """400 people to learn from, 4000 others, the evidence, the weights, and the answers."""
    people = Samples(*BodyMeasurements("train", seed=request.param).tensors)
    fresh = Samples(*BodyMeasurements("test", 2000, seed=request.param).tensors)
    learner = make_learner()
    evidence, weighting = learner.weigh(people)
    base = [predictor(fresh.x) for predictor in evidence.predictors]
    return people, fresh, weighting, base, learner(people, fresh.x)


def accuracy(outputs, y):
    return (outputs.argmax(dim=1) == y).float().mean().item()


def test_the_combination_is_no_less_accurate_than_the_worst_base_learner(example):
    _, fresh, _, base, outputs = example
    assert accuracy(outputs, fresh.y) >= min(accuracy(answer, fresh.y) for answer in base)
    assert accuracy(outputs, fresh.y) > 0.8


def test_the_log_loss_on_fresh_people_is_about_that_of_the_best_base_learner(example):
    _, fresh, _, base, outputs = example
    losses = [cross_entropy(answer, fresh.y).item() for answer in base]
    loss = cross_entropy(outputs, fresh.y).item()
    assert loss < min(losses) + 0.03  # two standard errors of a loss estimated from 400 people
    assert loss < sorted(losses)[1] - 0.02  # clearly better than the second


def test_the_held_out_losses_rank_the_base_learners_as_fresh_people_do(example):
    _, fresh, weighting, base, _ = example
    held_out = weighting.report["held_out_loss"]
    losses = [cross_entropy(answer, fresh.y).item() for answer in base]
    assert list(held_out) == ["tree", "svm", "network"]
    assert min(held_out, key=held_out.get) == "network"
    assert losses.index(min(losses)) == 2
    assert sum(weighting.report["weights"].values()) == pytest.approx(1)


def test_the_same_people_give_the_same_answers_bit_for_bit(example):
    people, fresh, _, _, outputs = example
    assert torch.equal(make_learner()(people, fresh.x), outputs)
