"""Super learners of clusterers and of detectors in scikit-learn's way."""

import json
import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.ensemble import IsolationForest
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from metalit.estimators import SuperLearnerClusterer, SuperLearnerDetector
from metalit.estimators.super_clusterer import GATE, default_clusterers

CLUSTERERS = [("k-means", KMeans(n_init=2)), ("single", AgglomerativeClustering(linkage="single"))]
FOREST = IsolationForest(n_estimators=20)
DETECTORS = [("density", KernelDensity()), ("near", LocalOutlierFactor(5, novelty=True))]


# array API input needs SCIPY_ARRAY_API to be set before scipy is imported
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input")
@parametrize_with_checks(
    [
        SuperLearnerClusterer(3, random_state=0),
        SuperLearnerClusterer(3, CLUSTERERS, random_state=0),
        SuperLearnerClusterer(3, CLUSTERERS, "hungarian"),
        SuperLearnerDetector(DETECTORS, random_state=0),
    ]
)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.parametrize("alignment", ["select", "hungarian", "coassociation"])
def test_the_default_clusterers_find_rings_moons_and_blobs(alignment):
    model = SuperLearnerClusterer(2, alignment=alignment, random_state=0)
    for x, y in (
        make_circles(200, factor=0.3, noise=0.03, random_state=0),
        make_moons(200, noise=0.05, random_state=0),
        make_blobs(200, centers=[[0, 0], [7, 7]], random_state=0),
    ):
        assert adjusted_rand_score(y, model.fit_predict(StandardScaler().fit_transform(x))) == 1
        assert sum(model.weights_.values()) == pytest.approx(1)
        assert model.n_clusters_ == 2


def test_the_trained_gate_is_that_of_the_default_clusterers():
    state = json.loads(GATE.read_text())["state"]
    assert len(state["bias"]) == len(default_clusterers(100))
    x, _ = make_moons(200, noise=0.05, random_state=0)
    gated = SuperLearnerClusterer(2, random_state=0).fit(x)
    ruled = SuperLearnerClusterer(2, default_clusterers(200), random_state=0).fit(x)
    assert gated.weights_ != ruled.weights_
    assert list(gated.weights_) == list(ruled.weights_)


@pytest.mark.parametrize("rows", [3, 5, 8, 15, 30, 60])
def test_the_default_clusterers_part_small_tables(rows):
    x = np.random.default_rng(0).normal(size=(rows, 2))
    assert set(SuperLearnerClusterer(2, random_state=0).fit_predict(x)) == {0, 1}


@pytest.mark.parametrize("seed", range(5))
def test_a_clusterer_that_finds_noise_only_does_not_lead(seed):
    x, _ = make_blobs(20, centers=3, random_state=seed)
    labels = SuperLearnerClusterer(3, random_state=0).fit_predict(StandardScaler().fit_transform(x))
    assert len(set(labels)) > 1


def test_without_a_number_a_mixture_of_one_does_not_lead():
    x, _ = make_blobs(200, centers=[[0, 0], [9, 9]], random_state=0)
    assert SuperLearnerClusterer(None, random_state=0).fit(x).n_clusters_ > 1


def test_without_a_number_the_heaviest_partition_gives_it():
    x, y = make_blobs(150, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    named = [("three", GaussianMixture(3)), ("two", GaussianMixture(2))]
    model = SuperLearnerClusterer(None, named, random_state=0).fit(x)
    assert model.report_["heaviest"] == "three"
    assert model.n_clusters_ == 3
    assert adjusted_rand_score(y, model.predict(x)) == 1
    np.testing.assert_allclose(model.predict_proba(x).sum(axis=1), 1)


def test_noise_joins_the_cluster_of_its_nearest_row():
    x, y = make_blobs(150, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    x = np.concatenate([x, [[40, 0], [0, 40]]])
    model = SuperLearnerClusterer(None, [("density", DBSCAN(eps=2))], random_state=0).fit(x)
    assert model.n_clusters_ == 3
    assert model.labels_[-2] == model.labels_[np.flatnonzero(y == 1)[0]]
    assert model.labels_[-1] == model.labels_[np.flatnonzero(y == 2)[0]]


def test_the_default_detectors_find_planted_outliers_and_their_share():
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.normal(size=(190, 3)), draw.uniform(-8, 8, size=(10, 3))])
    model = SuperLearnerDetector(contamination=0.05, random_state=0).fit(x)
    assert roc_auc_score(np.arange(200) >= 190, -model.score_samples(x)) > 0.95
    assert (model.predict(x) == -1).sum() == 10
    np.testing.assert_array_equal(model.predict(x), model.fit_predict(x))
    assert list(model.weights_.values()) == [pytest.approx(1 / 3)] * 3


def test_scores_are_the_mean_of_ranks():
    x = np.random.default_rng(0).normal(size=(60, 2))
    model = SuperLearnerDetector(DETECTORS, random_state=0).fit(x)
    alone = [SuperLearnerDetector([pair], random_state=0).fit(x) for pair in DETECTORS]
    mean = np.mean([one.score_samples(x) for one in alone], axis=0)
    np.testing.assert_allclose(model.score_samples(x), mean)
    scores = KernelDensity().fit(x).score_samples(x)
    np.testing.assert_array_equal(alone[0].score_samples(x).argsort(), scores.argsort())


@pytest.mark.parametrize(
    "model",
    [
        SuperLearnerClusterer(3, CLUSTERERS, "hungarian", random_state=0),
        SuperLearnerDetector([("forest", FOREST), *DETECTORS], random_state=0),
    ],
    ids=["clusterer", "detector"],
)
def test_copies_answer_alike(model, tmp_path):
    x, _ = make_blobs(80, random_state=0)
    pipeline = make_pipeline(StandardScaler(), model).fit(x)
    joblib.dump(pipeline, tmp_path / "model")
    copies = [pickle.loads(pickle.dumps(pipeline)), joblib.load(tmp_path / "model")]
    for copy in [*copies, clone(pipeline).fit(x)]:
        np.testing.assert_array_equal(copy.predict(x + 0.5), pipeline.predict(x + 0.5))


def test_a_grid_search_finds_the_number():
    x, y = make_blobs(150, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    model = SuperLearnerClusterer(estimators=CLUSTERERS, random_state=0)
    grid = {"n_clusters": [2, 3, 4], "k-means__n_init": [1, 2]}
    search = GridSearchCV(model, grid, scoring="adjusted_rand_score", cv=2).fit(x, y)
    assert search.best_params_["n_clusters"] == 3
    assert search.best_score_ == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SuperLearnerClusterer(0), "n_clusters=0"),
        (SuperLearnerClusterer(30), "n_samples=30 should be more than n_clusters=30: give more"),
        (SuperLearnerClusterer(alignment="mean"), "alignment='mean' is unknown: choose from"),
        (SuperLearnerClusterer(estimators=[]), "needs at least one"),
        (SuperLearnerDetector(contamination=0.7), r"contamination=0.7 is a share of rows: give"),
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_in_one_line(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(make_blobs(30, random_state=0)[0])
