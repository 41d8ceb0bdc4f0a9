"""The super learner as a learner: which base learners it takes, and tasks that are hard to cut."""

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from metalit import Samples
from metalit.combinations import Consensus, RankAverage, Stacking
from metalit.learners import (
    FineTuned,
    SklearnClassifier,
    SklearnClusterer,
    SklearnDetector,
    SupervisedMetaLearner,
)


@pytest.mark.parametrize(
    ("learners", "combination", "message"),
    [
        (
            {"k": SklearnClusterer(KMeans())},
            None,
            "'k' .KMeans. gives clusters or a score .*Readout",
        ),
        ({"f": SklearnDetector(IsolationForest())}, Stacking(), "gives clusters or a score"),
        ({"b": SklearnClassifier(GaussianNB())}, Consensus(), "is no clusterer but Consensus"),
        ({"b": SklearnClusterer(KMeans())}, RankAverage(), "is no detector but RankAverage"),
        ({"a.b": SklearnClassifier(GaussianNB())}, None, "cannot be called 'a.b': take another"),
        ({"keys": SklearnClassifier(GaussianNB())}, None, "cannot be called 'keys'"),
        ({"training": SklearnClassifier(GaussianNB())}, None, "cannot be called 'training'"),
        ({"combination": SklearnClassifier(GaussianNB())}, None, "cannot be called 'combination'"),
        ({}, None, "learners is empty"),
    ],
)
def test_base_learners_that_do_not_suit_are_refused_in_one_line(learners, combination, message):
    with pytest.raises(ValueError, match=message):
        SupervisedMetaLearner(learners, combination)


def test_one_shot_tasks_and_a_weight_a_class_go_together():
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()
    network = FineTuned(nn.Linear(2, 5).double(), nn.CrossEntropyLoss(), epochs=1)
    learners = {"wide": network, "bayes": SklearnClassifier(KNeighborsClassifier(1))}
    learner = SupervisedMetaLearner(learners, Stacking(weights="matrix")).eval()
    assert learner(Samples(x, torch.arange(3)), x).shape == (3, 5)


def test_whole_numbers_as_inputs_can_have_a_side_table():
    x = torch.randint(9, (30, 3), generator=torch.Generator().manual_seed(0))
    support = Samples(x, x[:, 0] % 2)
    learner = SupervisedMetaLearner(
        {"tree": SklearnClassifier(DecisionTreeClassifier())}, Stacking(side_columns=[1])
    ).eval()
    assert learner(support, x).shape == (30, 2)
