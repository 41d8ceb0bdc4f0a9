"""Labels and targets read out of clusters and anomaly scores."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from metalit import Samples
from metalit.learners import (
    Prototypes,
    Readout,
    SklearnClassifier,
    SklearnClusterer,
    SklearnDetector,
    SupervisedMetaLearner,
)
from metalit.networks import MLP


def rings(n=160):
    """A core and a ring around it: a matter of distance, not of a straight line."""
    draw = np.random.default_rng(0)
    y = np.arange(n) % 2
    angle = draw.uniform(0, 2 * np.pi, n)
    radius = np.where(y == 1, 3.0, 0.5) + 0.1 * draw.normal(size=n)
    x = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return torch.tensor(x), torch.tensor(y)


def accuracy(outputs, y):
    return float((outputs.argmax(dim=1) == y).double().mean())


def test_clusters_get_the_labels_of_their_rows():
    x, y = rings()
    few = torch.where(torch.arange(160) < 30, y, -1)
    learner = Readout(SklearnClusterer(KMeans(n_init=3), n_clusters=9))
    assert accuracy(learner(Samples(x, few), x), y) > 0.95
    known = (few >= 0).numpy()
    shares = one_hot_clusters(x)
    by_hand = LogisticRegression().fit(standard(shares, known)[known], few[known])
    expected = by_hand.predict_proba(standard(shares, known))
    np.testing.assert_allclose(learner(Samples(x, few), x).exp(), expected, atol=1e-4)


def one_hot_clusters(x):
    learner = SklearnClusterer(KMeans(n_init=3), n_clusters=9)
    return learner(Samples(x, torch.full((len(x),), -1)), x).softmax(dim=1).numpy()


def standard(table, rows):
    deviation = table[rows].std(axis=0)
    return (table - table[rows].mean(axis=0)) / np.where(deviation > 1e-12, deviation, 1)


def test_an_anomaly_score_becomes_a_probability():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=draw).double()
    x[180:] *= 6
    y = (x.norm(dim=1) > 3).long()
    learner = Readout(SklearnDetector(IsolationForest(n_estimators=50)))
    outputs = learner(Samples(x, y), x)
    assert outputs.shape == (200, 2)
    assert accuracy(outputs, y) > 0.95


def test_targets_are_read_out_too():
    x, y = rings()
    target = torch.where(y == 1, 7.0, -2.0).double()[:, None]
    learner = Readout(SklearnClusterer(KMeans(n_init=3), n_clusters=9), LinearRegression())
    np.testing.assert_allclose(learner(Samples(x, target), x), target, atol=1e-6)


def test_the_learner_inside_sees_no_label():
    x, y = rings()
    seen = []

    class Spy(SklearnClusterer):
        def learn(self, support):
            seen.append(support.y)
            return super().learn(support)

    Readout(Spy(KMeans(n_init=1), n_clusters=4))(Samples(x, y), x)
    (labels,) = seen
    assert labels.tolist() == [-1] * 160


def test_a_super_learner_mixes_it_with_classifiers():
    x, y = rings()
    learners = {
        "linear": SklearnClassifier(LogisticRegression()),
        "clusters": Readout(SklearnClusterer(KMeans(n_init=3), n_clusters=9)),
        "scores": Readout(SklearnDetector(IsolationForest(n_estimators=50))),
    }
    learner = SupervisedMetaLearner(learners, hidden=None)
    support = Samples(x[:120], y[:120])
    assert accuracy(learner(support, x[120:]), y[120:]) > 0.95
    weights = learner.weigh(support)[1].report["weights"]
    assert weights["linear"] < 0.2


def test_parameters_inside_are_frozen():
    learner = Readout(Prototypes(MLP(2, 4, 3)), KNeighborsClassifier(1))
    assert not any(parameter.requires_grad for parameter in learner.parameters())


def test_what_cannot_be_learned_is_refused_in_one_line():
    x, _ = rings(20)
    learner = Readout(SklearnClusterer(KMeans(), n_clusters=3))
    with pytest.raises(ValueError, match="needs labels but the support set has none"):
        learner.check(Samples(x, torch.full((20,), -1)))
    assert learner.name == "KMeans"


def test_the_estimator_sees_probabilities_of_clusters_and_scores_as_they_are():
    x, y = rings()
    seen = []

    class Watch(LogisticRegression):
        def fit(self, x, y):
            seen.append(x)
            return super().fit(x, y)

    clusterer = SklearnClusterer(KMeans(n_init=1), n_clusters=4)
    Readout(clusterer, Watch())(Samples(x, y), x)
    np.testing.assert_allclose(seen[0].sum(axis=1), 1, atol=1e-5)
    assert seen[0].shape == (160, 4)
    detector = SklearnDetector(IsolationForest(n_estimators=10))
    Readout(detector, Watch())(Samples(x, y), x)
    expected = detector(Samples(x, y), x)
    np.testing.assert_array_equal(seen[1], expected)


def test_the_seed_reaches_the_estimator():
    x, y = rings()
    forest = RandomForestClassifier(n_estimators=3, max_depth=2)
    clusterer = SklearnClusterer(KMeans(n_init=1), n_clusters=9)
    first, again, other = (
        Readout(clusterer, forest, seed=seed)(Samples(x, y), x) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_learner_of_the_caller_can_still_be_trained():
    network = MLP(2, 4, 3)
    prototypes = Prototypes(network)
    Readout(prototypes)
    assert all(parameter.requires_grad for parameter in network.parameters())
