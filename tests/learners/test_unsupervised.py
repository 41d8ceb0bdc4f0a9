import copy
import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from metalit import MetaLearner, Samples
from metalit.hyperparameters import build_arguments, describe
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML, SklearnClassifier, SupervisedMetaLearner
from metalit.learners.unsupervised import UnsupervisedMetaLearner, _obey
from metalit.networks import MLP
from metalit.pseudo_labels import CannotLink, KnownLabels, MustLink, fit_structure, gather_rules

TREE = SklearnClassifier(DecisionTreeClassifier())
BAYES = SklearnClassifier(GaussianNB())


def make_blob_task(count: int = 60, clusters: int = 3, size: int = 2) -> tuple[Samples, Tensor]:
    """Clear clusters without labels, and the true ones."""
    centers = 12 * np.eye(max(clusters, size))[:clusters, :size] + 3 * np.arange(clusters)[:, None]
    x, truth = make_blobs(count, centers=centers, random_state=0)
    return Samples(torch.from_numpy(x), torch.full((count,), -1)), torch.from_numpy(truth)


def make_stretched_task() -> tuple[Samples, Tensor]:
    """Three long Gaussians side by side, which k-means cuts across."""
    generator = np.random.default_rng(0)
    truth = np.arange(450) % 3
    x = generator.normal(size=(450, 2)) * [2.5, 0.4] + np.stack([0 * truth, 2 * truth], axis=1)
    return Samples(torch.from_numpy(x), torch.full((450,), -1)), torch.from_numpy(truth)


def agreement(first: Tensor, second: Tensor) -> float:
    return float(adjusted_rand_score(first, second))


def maml() -> MAML:
    return MAML(MLP(4, 8, 3), GradientDescent(0.1, steps=2), nn.CrossEntropyLoss())


@pytest.mark.parametrize(
    "clusterer",
    [None, GaussianMixture(), AgglomerativeClustering(), DBSCAN(eps=3), KMeans(n_init=1)],
    ids=lambda c: type(c).__name__,
)
def test_clear_clusters_are_found_by_any_clusterer(clusterer: BaseEstimator | None) -> None:
    support, truth = make_blob_task()
    outputs = UnsupervisedMetaLearner(BAYES, clusterer, n_clusters=3)(support, support.x)
    assert outputs.shape == (60, 3)
    torch.testing.assert_close(outputs.exp().sum(1), torch.ones(60).double())
    assert agreement(outputs.argmax(1), truth) == 1


def test_of_equally_good_rounds_the_earliest_is_kept() -> None:
    support, truth = make_stretched_task()
    y = torch.full_like(truth, -1)
    y[:2] = truth[:2]  # of two clusters: all rounds agree with them alike
    kept = UnsupervisedMetaLearner(BAYES, n_clusters=3, keep="labels").cluster(
        support._replace(y=y)
    )
    scores = [row["labels"] for row in kept.report["rounds"]]
    assert len(scores) > 2
    assert kept.report["kept"] == scores.index(max(scores))
    assert scores.count(max(scores)) > 1


def test_the_structure_is_that_of_the_labels_that_were_kept() -> None:
    support, _ = make_stretched_task()
    clustering = UnsupervisedMetaLearner(BAYES, n_clusters=3).cluster(support)
    assert clustering.report["kept"] > 0
    expected = fit_structure(support.x, clustering.labels, 3, "full")
    torch.testing.assert_close(clustering.structure(support.x), expected(support.x))


def test_refinement_finds_long_clusters_that_its_clusterer_cuts() -> None:
    support, truth = make_stretched_task()
    alone, refined = (
        UnsupervisedMetaLearner(BAYES, n_clusters=3, rounds=rounds).cluster(support)
        for rounds in (0, 10)
    )
    before, after = (agreement(found.labels, truth) for found in (alone, refined))
    assert after > before + 0.2
    assert refined.report["kept"] > 0


def test_the_answer_is_the_base_learner_and_the_distances_together() -> None:
    support, _ = make_blob_task()
    learner = UnsupervisedMetaLearner(BAYES, n_clusters=3, temperature=2.5)
    found, query = learner.cluster(support), support.x[:7] + 1
    distances = torch.stack(
        [
            torch.distributions.MultivariateNormal(
                found.structure.centres[k],
                scale_tril=torch.linalg.inv(found.structure.whitening[k]),
            ).log_prob(query)
            for k in range(3)
        ],
        dim=1,
    )
    answers = BAYES(Samples(support.x, found.labels), query)
    wanted = (answers + distances.log_softmax(1) / 2.5).log_softmax(1)
    torch.testing.assert_close(learner(support, query), wanted)


def test_the_outer_loop_trains_the_temperature() -> None:
    support, truth = make_blob_task(count=21)
    learner = UnsupervisedMetaLearner(BAYES, n_clusters=3, temperature=2.0)
    assert [name for name, _ in learner.named_parameters()] == ["log_temperature"]
    predict, query = learner.learn(support), support.x + 4
    nn.functional.cross_entropy(predict(query), truth).backward()
    gradient = learner.log_temperature.grad
    with torch.no_grad():
        losses = []
        for step in (-1e-3, 1e-3):
            other = copy.deepcopy(learner)
            other.log_temperature += step
            losses.append(nn.functional.cross_entropy(other(support, query), truth))
    torch.testing.assert_close(
        gradient.double(), (losses[1] - losses[0]) / 2e-3, rtol=1e-2, atol=1e-6
    )
    assert UnsupervisedMetaLearner(BAYES, n_clusters=3)(support, query).requires_grad is False


def test_the_outer_gradient_reaches_the_base_learner() -> None:
    support, _ = make_blob_task(count=21, size=4)
    learner = UnsupervisedMetaLearner(maml(), n_clusters=3).double()
    learner(support, support.x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in learner.parameters())


def test_learners_nest() -> None:
    support, truth = make_blob_task()
    inside = SupervisedMetaLearner({"tree": TREE, "bayes": BAYES}, hidden=None)
    outputs = UnsupervisedMetaLearner(inside, n_clusters=3)(support, support.x)
    assert agreement(outputs.argmax(1), truth) == 1


def test_support_labels_are_not_looked_at() -> None:
    support, truth = make_blob_task()
    learner = UnsupervisedMetaLearner(BAYES, n_clusters=3)
    labelled = support._replace(y=truth)
    assert torch.equal(learner(support, support.x), learner(labelled, support.x))
    assert learner.cluster(support).report == learner.cluster(labelled).report


@pytest.mark.parametrize("selection", ["silhouette", "bic"])
def test_an_unknown_number_is_estimated_and_outputs_have_one_width(selection: str) -> None:
    support, truth = make_blob_task()
    learner = UnsupervisedMetaLearner(BAYES, selection=selection, max_clusters=5)
    report = learner.cluster(support).report
    assert report["n_clusters"] == 3
    assert list(report["curve"]) == ["2", "3", "4", "5"]
    outputs = learner(support, support.x)
    assert outputs.shape == (60, 5)
    floor = torch.full((60, 2), 1e-7, dtype=torch.float64).log()
    torch.testing.assert_close(outputs[:, 3:], floor)
    assert agreement(outputs.argmax(1), truth) == 1


def test_a_clusterer_that_finds_the_number_itself_keeps_it() -> None:
    support, _ = make_blob_task()
    learner = UnsupervisedMetaLearner(BAYES, DBSCAN(eps=3), max_clusters=6)
    report = learner.cluster(support).report
    assert report["n_clusters"] == 3
    assert "curve" not in report
    assert learner(support, support.x).shape == (60, 6)


def test_noise_gets_a_label_from_what_was_learned() -> None:
    support, truth = make_blob_task()
    clusterer = DBSCAN(eps=1.0)
    assert -1 in clusterer.fit_predict(support.x.numpy())
    alone = UnsupervisedMetaLearner(BAYES, clusterer, n_clusters=3, rounds=0).cluster(support)
    assert -1 in alone.labels
    learner = UnsupervisedMetaLearner(BAYES, clusterer, n_clusters=3)
    assert agreement(learner(support, support.x).argmax(1), truth) == 1


def test_rules_leave_noise_as_it_is_unless_they_speak_of_it() -> None:
    support, _ = make_blob_task()
    clusterer = DBSCAN(eps=1.0)
    alone = UnsupervisedMetaLearner(BAYES, clusterer, n_clusters=3, rounds=0)
    labels = alone.cluster(support).labels
    noise, inside = (torch.where(labels == -1)[0], torch.where(labels >= 0)[0])
    first, linked = int(noise[0]), int(inside[0])
    ruled = UnsupervisedMetaLearner(
        BAYES, clusterer, n_clusters=3, rounds=0, rules=[MustLink([(first, linked)])]
    )
    found = ruled.cluster(support).labels
    assert int(found[first]) == int(found[linked]) >= 0
    assert bool((found[noise[1:]] == -1).all())
    assert agreement(found[inside], labels[inside]) == 1
    empty = UnsupervisedMetaLearner(
        BAYES, clusterer, n_clusters=3, rounds=0, rules=[MustLink([]), CannotLink([])]
    )
    assert torch.equal(empty.cluster(support).labels == -1, labels == -1)


def test_no_row_moves_for_the_sake_of_noise_that_stays_noise() -> None:
    support = Samples(torch.zeros(7, 1), torch.tensor([-1, 0, -1, -1, -1, -1, -1]))
    groups = gather_rules([KnownLabels(), CannotLink([(0, 1), (0, 2)])], support, 3)
    labels = torch.tensor([-1, 0, 1, 0, 1, 0, 1])
    assert torch.equal(_obey(labels, 3, groups), labels)


def test_a_reducer_is_copied_so_that_the_callers_can_still_be_trained() -> None:
    encoder = nn.Linear(2, 2)
    learner = UnsupervisedMetaLearner(BAYES, n_clusters=3, reducer=encoder)
    assert encoder.weight.requires_grad
    assert not any(p.requires_grad for p in learner.parameters())


def test_a_reducer_is_fitted_to_the_support_set_and_serves_the_query() -> None:
    support, truth = make_blob_task(size=6)
    outputs = UnsupervisedMetaLearner(BAYES, reducer=PCA(2), n_clusters=3)(support, support.x)
    assert agreement(outputs.argmax(1), truth) == 1
    torch.manual_seed(0)  # not every random projection keeps the blobs apart
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images = support.x[:, :4].float().reshape(60, 1, 2, 2)
    learner = UnsupervisedMetaLearner(BAYES, reducer=encoder, n_clusters=3)
    outputs = learner(Samples(images, support.y), images)
    assert agreement(outputs.argmax(1), truth) == 1
    assert not outputs.requires_grad  # the encoder stays as it is
    assert not list(filter(lambda p: p.requires_grad, learner.parameters()))


def test_after_a_reducer_without_transform_the_base_learner_alone_answers() -> None:
    support, _ = make_blob_task()
    learner = UnsupervisedMetaLearner(
        SklearnClassifier(KNeighborsClassifier(3)), reducer=TSNE(perplexity=5), n_clusters=3
    )
    labels = learner.cluster(support).labels
    wanted = learner.learner(Samples(support.x, labels), support.x + 1)
    # brought to a sum of 1, that of the floor too
    torch.testing.assert_close(learner(support, support.x + 1), wanted.log_softmax(1))


def test_rules_hold_in_the_clusters_that_are_kept() -> None:
    support, truth = make_blob_task()
    first = int(truth[0])
    other = int((truth != first).nonzero()[0])
    twin = int((truth == first).nonzero()[1])
    rules = [MustLink([(0, other)]), CannotLink([(0, twin)])]
    labels = UnsupervisedMetaLearner(BAYES, n_clusters=3, rules=rules).cluster(support).labels
    assert labels[0] == labels[other]
    assert labels[0] != labels[twin]


def test_a_handful_of_labels_numbers_the_clusters() -> None:
    support, truth = make_blob_task()
    few = torch.full((60,), -1)
    for label in range(3):
        few[(truth == label).nonzero()[0]] = label
    learner = UnsupervisedMetaLearner(BAYES, n_clusters=3, rules=[KnownLabels()], keep="labels")
    assert torch.equal(learner(support._replace(y=few), support.x).argmax(1), truth)


@pytest.mark.parametrize(
    ("x", "learner", "message"),
    [
        (torch.zeros(4, 2), UnsupervisedMetaLearner(TREE), "4 rows with 1 different ones"),
        (
            torch.randn(2, 2),
            UnsupervisedMetaLearner(TREE, n_clusters=3),
            "n_samples=2 should be >= n_clusters=3",
        ),
        (
            torch.arange(9.0)[:, None],
            UnsupervisedMetaLearner(TREE, DBSCAN(eps=0.1)),
            "DBSCAN takes all 9 rows for noise",
        ),
        (
            torch.arange(9.0)[:, None],
            UnsupervisedMetaLearner(TREE, DBSCAN(eps=0.1, min_samples=1), n_clusters=4),
            "finds 9 clusters but there are 4 outputs: raise n_clusters",
        ),
        (torch.full((9, 2), torch.nan), UnsupervisedMetaLearner(TREE), "holds NaN or infinite"),
    ],
)
def test_tasks_that_cannot_be_clustered_are_an_error_of_one_line(x, learner, message) -> None:
    with pytest.raises(ValueError, match=message) as error:
        learner(Samples(x, torch.zeros(len(x))), x)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("x", [torch.zeros(6, 2), torch.randn(3, 2)], ids=["duplicates", "few"])
def test_what_cannot_be_refined_keeps_the_clusterers_partition(x: Tensor) -> None:
    learner = UnsupervisedMetaLearner(BAYES, n_clusters=3)
    support = Samples(x, torch.zeros(len(x)))
    assert learner.cluster(support).report.get("kept", 0) == 0
    assert learner(support, x).isfinite().all()


def test_one_cluster_is_a_cluster() -> None:
    support, _ = make_blob_task()
    outputs = UnsupervisedMetaLearner(BAYES, n_clusters=1)(support, support.x)
    assert torch.equal(outputs, torch.zeros(60, 1).double())


def test_where_the_base_learner_refuses_the_structure_alone_answers() -> None:
    class Refusing(SklearnClassifier):
        def learn(self, support):
            raise ValueError("no, thank you")

    support, truth = make_blob_task()
    learner = UnsupervisedMetaLearner(Refusing(GaussianNB()), n_clusters=3)
    report = learner.cluster(support).report
    assert (report["answers_by"], report["refusal"]) == ("structure alone", "no, thank you")
    assert agreement(learner(support, support.x).argmax(1), truth) == 1
    learner.reducer = TSNE(perplexity=5)  # after which there is no structure for a query
    with pytest.raises(ValueError, match="no, thank you"):
        learner(support, support.x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clusters": 0}, "n_clusters=0 must be at least 1"),
        ({"max_clusters": 1}, "max_clusters=1"),
        ({"rounds": -1}, "rounds=-1"),
        ({"folds": 1}, "folds=1"),
        ({"selection": "calinski"}, "selection='calinski' is unknown: choose from"),
        ({"keep": "x"}, "keep='x' is unknown: choose from"),
        ({"covariance": "diag"}, "covariance='diag' is unknown: choose from"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
    ],
)
def test_bad_arguments_are_an_error(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UnsupervisedMetaLearner(TREE, **arguments)


# what tests/test_conformance.py asks of every learner


@pytest.mark.parametrize(
    ("shot", "dtype"), [(1, torch.float64), (2, torch.float32), (7, torch.float64)]
)
@pytest.mark.parametrize("base", [lambda: TREE, maml], ids=["tree", "MAML"])
def test_tasks_of_any_size_are_answered(base, dtype: torch.dtype, shot: int) -> None:
    learner = UnsupervisedMetaLearner(base(), n_clusters=3, temperature=1.0).to(dtype).eval()
    x = torch.randn(3 * shot, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    support = Samples(x, torch.arange(3).repeat_interleave(shot))
    outputs = learner(support, x[:2])
    assert outputs.shape == (2, 3)
    assert outputs.dtype == dtype
    assert outputs.isfinite().all()
    assert torch.equal(outputs, pickle.loads(pickle.dumps(learner.cpu()))(support, x[:2]))


def test_what_was_learned_can_be_pickled_and_the_report_written_as_json() -> None:
    support, _ = make_blob_task()
    learner = UnsupervisedMetaLearner(TREE, reducer=PCA(2), n_clusters=3)
    predict = pickle.loads(pickle.dumps(learner.learn(support)))
    assert torch.equal(predict(support.x), learner(support, support.x))
    report = learner.cluster(support).report
    assert json.loads(json.dumps(report)) == report


def test_rules_and_estimators_can_be_built_again_from_their_description() -> None:
    support, _ = make_blob_task()
    learner = UnsupervisedMetaLearner(
        BAYES,
        GaussianMixture(),
        n_clusters=3,
        reducer=PCA(2),
        rules=[MustLink([(0, 1)]), CannotLink([(2, 3)]), KnownLabels()],
        temperature=1.5,
    )
    description = json.loads(json.dumps(describe(learner)))
    built = build_arguments(MetaLearner, {"learner": description})["learner"]
    assert describe(built) == description
    assert torch.equal(built(support, support.x), learner(support, support.x))
