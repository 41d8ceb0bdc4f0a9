"""The super learner of clusterers: the rule, the weights, the readouts and their gradient."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import make_blobs, make_circles
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from torch.nn.functional import one_hot

from metalit import Samples
from metalit.combinations import Consensus, consensus
from metalit.combinations.consensus import RULE, apply_rule
from metalit.combinations.validity import LANDMARKS
from metalit.learners import SklearnClusterer, SupervisedMetaLearner
from metalit.losses import MatchedCrossEntropy

ALIGNMENTS = ["select", "hungarian", "coassociation"]


def clusterers(k=2):
    single = AgglomerativeClustering(linkage="single")
    return {
        "k-means": SklearnClusterer(KMeans(n_init=3), n_clusters=k),
        "single": SklearnClusterer(single, n_clusters=k),
        "mixture": SklearnClusterer(GaussianMixture(n_init=3), n_clusters=k),
    }


def rings(n=200):
    x, y = make_circles(n, factor=0.3, noise=0.03, random_state=0)
    return Samples(torch.tensor(x), torch.full((n,), -1)), y


def blobs(n=120, centers=3):
    x, y = make_blobs(n, centers=centers, cluster_std=0.5, random_state=1)
    return Samples(torch.tensor(x), torch.full((n,), -1)), y


def super_learner(k, hidden=None, **arguments):
    return SupervisedMetaLearner(clusterers(k), Consensus(**arguments), hidden)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize(("draw", "k", "best"), [(rings, 2, "single"), (blobs, 3, None)])
def test_the_clusterer_that_fits_the_table_leads(alignment, draw, k, best):
    support, truth = draw()
    learner = super_learner(k, alignment=alignment)
    outputs = learner(support, support.x)
    assert adjusted_rand_score(truth, outputs.argmax(dim=1)) == 1
    report = learner.weigh(support)[1].report
    assert best in (None, report["heaviest"])
    assert sum(report["weights"].values()) == pytest.approx(1)


def test_the_rule_adds_up_standardised_landmarks():
    names = [*LANDMARKS, "agreement"]
    landmarks = torch.randn(5, len(names), generator=torch.Generator().manual_seed(0)).double()
    landmarks[:, names.index("largest")] = 0.5  # of two clusters or more
    table = landmarks.numpy()
    table = (table - table.mean(axis=0)) / np.maximum(table.std(axis=0), 1e-6)
    expected = sum(sign * table[:, names.index(name)] for name, sign in RULE.items())
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(apply_rule(landmarks, 3.0), 3 * expected)


def test_agreement_is_the_mean_adjusted_rand_index_with_the_others():
    support, _ = rings()
    evidence = Consensus().observe(clusterers(), support)
    labels = evidence.outputs.argmax(dim=2)
    for k in range(3):
        others = [adjusted_rand_score(labels[k], labels[j]) for j in range(3) if j != k]
        assert float(evidence.landmarks[k, -1]) == pytest.approx(np.mean(others))


def test_without_rule_and_prior_all_weights_are_equal():
    support, _ = rings()
    weighting = super_learner(2, sharpness=0.0, alignment="hungarian").weigh(support)[1]
    np.testing.assert_allclose(weighting.weights, 1 / 3)


def test_a_prior_corrects_the_rule():
    support, _ = rings()
    combination = Consensus(alignment="hungarian")
    evidence = combination.observe(clusterers(), support)
    plain, moved = (
        combination.weigh(["a", "b", "c"], evidence, support, prior.double()).weights
        for prior in (torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    )
    odds = (moved / moved[0]).log() - (plain / plain[0]).log()
    np.testing.assert_allclose(odds, [0, 0, 1], atol=1e-9)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_training_moves_the_gate_to_the_clusterer_that_is_right(alignment):
    torch.manual_seed(0)
    support, truth = rings()
    learner = super_learner(2, hidden=4, n_clusters=2, alignment=alignment, sharpness=0.0)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.1)
    before = learner.weigh(support)[1].report["weights"]["single"]
    for _ in range(8):
        loss = MatchedCrossEntropy()(learner(support, support.x), torch.tensor(truth))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = learner.weigh(support)[1].report["weights"]["single"]
    assert after > before + 0.2


def test_weights_are_differentiable_in_the_answer():
    support, _ = blobs(40)
    combination = Consensus(n_clusters=3, alignment="hungarian")
    evidence = combination.observe(clusterers(3), support)

    def answer(prior):
        weighting = combination.weigh(["a", "b", "c"], evidence, support, prior)
        return combination.answer(evidence, weighting, support.x[:9]).exp()

    prior = torch.tensor([0.1, 0.0, -0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(answer, (prior,))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_outputs_are_log_probabilities_of_the_asked_number_of_clusters(alignment):
    support, _ = blobs(60, centers=4)
    found = super_learner(4, alignment=alignment)(support, support.x[:7])
    assert found.shape == (7, 4)
    fewer = super_learner(4, n_clusters=2, alignment=alignment)(support, support.x[:7])
    assert fewer.shape == (7, 2)
    np.testing.assert_allclose(fewer.exp().sum(dim=1), 1, rtol=1e-6)
    more = super_learner(2, n_clusters=5, alignment=alignment)(support, support.x[:7])
    assert more.shape == (7, 5)


def test_the_order_of_rows_and_scale_do_not_matter():
    support, _ = rings()
    order = torch.randperm(len(support.x), generator=torch.Generator().manual_seed(0))
    moved = Samples(1000 * support.x[order] - 7, support.y)
    one = super_learner(2)(support, support.x).argmax(dim=1)
    other = super_learner(2)(moved, moved.x).argmax(dim=1)
    assert adjusted_rand_score(one[order], other) == 1


def test_noise_is_a_cluster_or_joins_its_nearest_row():
    support, truth = blobs(90)
    far = torch.tensor([[40.0, 40.0], [-40.0, 40.0], [40.0, -40.0]], dtype=torch.float64)
    x = torch.cat([support.x, far])
    for noise, width in (("column", 4), ("nearest", 3)):
        learner = SklearnClusterer(HDBSCAN(10, copy=True), noise=noise)
        outputs = learner(Samples(x, torch.full((93,), -1)), x)
        assert outputs.shape == (93, width)
        assert adjusted_rand_score(truth, outputs[:90].argmax(dim=1)) == 1
    assert int((outputs[90:].argmax(dim=1) < 3).sum()) == 3


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("x", [[[0.0], [1.0]], [[1.0, 2.0]] * 6], ids=["two rows", "equal rows"])
def test_few_and_equal_rows_are_clustered(alignment, x):
    linkages = (AgglomerativeClustering(linkage=name) for name in ("ward", "single"))
    learners = {str(k): SklearnClusterer(each, n_clusters=2) for k, each in enumerate(linkages)}
    learner = SupervisedMetaLearner(learners, Consensus(2, alignment), hidden=None)
    support = Samples(torch.tensor(x).double(), torch.full((len(x),), -1))
    outputs = learner(support, support.x)
    assert outputs.shape == (len(x), 2)
    assert bool(outputs.isfinite().all())


def test_one_cluster_never_leads():
    support, _ = rings()
    learners = {
        "all": SklearnClusterer(DBSCAN(eps=9.0)),
        "two": SklearnClusterer(KMeans(n_init=1), n_clusters=2),
    }
    learner = SupervisedMetaLearner(learners, Consensus(), hidden=None)
    assert learner.weigh(support)[1].report["heaviest"] == "two"
    evidence = learner.strategy.observe(learners, support)
    for sharpness in (0.0, 2.0):  # not even by a prior
        combination = Consensus(sharpness=sharpness, alignment="hungarian")
        prior = torch.tensor([50.0, 0.0]).double().requires_grad_()
        weights = combination.weigh(["all", "two"], evidence, support, prior, True).weights
        assert weights.tolist() == [0, 1]
        weights[1].backward()
        assert prior.grad.tolist() == [0, 0]
    alone = SupervisedMetaLearner({"all": learners["all"]}, Consensus(), hidden=None)
    assert alone(support, support.x).shape == (200, 1)


def test_a_large_table_is_judged_by_rows_from_all_of_it(monkeypatch):
    support, truth = rings()
    order = np.argsort(truth, kind="stable")
    monkeypatch.setattr(consensus, "_MOST", 80)
    sorted_by_ring = Samples(support.x[order], support.y)
    evidence = Consensus().observe(clusterers(), sorted_by_ring)
    judged = evidence.landmarks[:, LANDMARKS.index("entropy")]
    rows = np.linspace(0, 199, 80).astype(int)
    for k in range(3):
        shares = evidence.outputs[k][rows].mean(dim=0)
        entropy = -(shares * shares.clamp_min(1e-12).log()).sum()
        assert judged[k].item() == pytest.approx(entropy.item() / 2)


def test_a_cluster_without_a_support_row_stands_for_all_alike():
    class Stranger(SklearnClusterer):
        def learn(self, support):
            def predict(query):
                column = torch.where(query[:, 0] > 50, 2, (query[:, 0] > 0).long())
                return 20 * one_hot(column, 3).double()

            return predict

    support, _ = rings()
    learners = {"a": Stranger(KMeans(), n_clusters=3)}
    learner = SupervisedMetaLearner(learners, Consensus(2), hidden=None)
    far = torch.tensor([[99.0, 0.0], [0.2, 0.0]]).double()
    shares = learner(support, far).exp()
    np.testing.assert_allclose(shares[0], 0.5, atol=1e-6)
    assert float(shares[1].max()) > 0.99


def test_what_was_learned_can_be_pickled():
    support, _ = rings()
    predict = super_learner(2).learn(support)
    again = pickle.loads(pickle.dumps(predict))
    assert torch.equal(again(support.x), predict(support.x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 0}, "n_clusters=0 and sharpness=2.0 but at least 1"),
        ({"sharpness": -1.0}, "raise the one that is too small"),
        ({"alignment": "vote"}, "alignment='vote' is unknown: choose from"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        Consensus(**arguments)
