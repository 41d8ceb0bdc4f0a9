import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import DBSCAN, KMeans
from sklearn.datasets import load_iris, make_blobs
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from metalit.estimators.pseudo_label import PseudoLabelClusterer

CENTERS = [[0, 0], [9, 1], [2, 12]]


def blobs(count: int = 90) -> tuple[np.ndarray, np.ndarray]:
    x, y = make_blobs(count, centers=CENTERS, random_state=0)
    return x, y


# array API input needs SCIPY_ARRAY_API to be set before scipy is imported
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input")
@parametrize_with_checks([PseudoLabelClusterer(max_clusters=4, rounds=3)])
def test_scikit_learn_takes_it_for_an_estimator(estimator, check) -> None:
    check(estimator)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"n_clusters": 3, "estimator": KNeighborsClassifier()},
        {"n_clusters": 3, "clusterer": GaussianMixture(), "reducer": PCA(2)},
        {"selection": "gap", "covariance": "spherical", "keep": "validity"},
    ],
    ids=str,
)
def test_clear_clusters_are_found(arguments: dict) -> None:
    x, y = blobs()
    model = PseudoLabelClusterer(random_state=0, max_clusters=5, **arguments).fit(x)
    assert model.n_clusters_ == 3
    assert adjusted_rand_score(y, model.labels_) == 1
    assert adjusted_rand_score(y, model.predict(x)) == 1


def test_transform_gives_the_logarithms_of_the_probabilities() -> None:
    x, _ = blobs()
    model = PseudoLabelClusterer(3, GaussianNB(), random_state=0).fit(x)
    probabilities = model.predict_proba(x + 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(np.log(np.maximum(probabilities, 1e-300)), model.transform(x + 3))
    assert (probabilities.argmax(axis=1) == model.predict(x + 3)).all()
    names = model.get_feature_names_out().tolist()
    assert names == [f"pseudolabelclusterer{k}" for k in range(3)]


def test_one_random_state_gives_one_clustering() -> None:
    x, _ = load_iris(return_X_y=True)
    first, again = (PseudoLabelClusterer(random_state=7).fit(x) for _ in range(2))
    assert (first.labels_ == again.labels_).all()
    assert first.report_ == again.report_


def test_copies_answer_alike(tmp_path) -> None:
    x, _ = blobs()
    model = PseudoLabelClusterer(3, random_state=0).fit(x)
    joblib.dump(model, tmp_path / "model")
    copies = [pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model")]
    for copy in [*copies, clone(model).fit(x)]:
        assert (copy.transform(x) == model.transform(x)).all()


def test_a_grid_search_over_a_pipeline_finds_the_number() -> None:
    x, y = blobs()
    pipeline = make_pipeline(StandardScaler(), PseudoLabelClusterer(random_state=0))
    grid = {"pseudolabelclusterer__n_clusters": [2, 3, 5]}
    search = GridSearchCV(pipeline, grid, scoring="adjusted_rand_score", cv=3).fit(x, y)
    assert search.best_params_ == {"pseudolabelclusterer__n_clusters": 3}
    assert search.best_score_ == 1


def test_rules_hold() -> None:
    x, y = blobs()
    first, other = (int(np.flatnonzero(y == label)[0]) for label in (0, 1))
    twin = int(np.flatnonzero(y == 0)[1])
    model = PseudoLabelClusterer(
        3, must_link=[(first, other)], cannot_link=[(first, twin)], random_state=0
    ).fit(x)
    assert model.labels_[first] == model.labels_[other]
    assert model.labels_[first] != model.labels_[twin]


def test_pairs_may_be_arrays() -> None:
    x, y = blobs()
    pairs = np.array([np.flatnonzero(y == 0)[:2], np.flatnonzero(y == 1)[:2]])
    model = PseudoLabelClusterer(3, must_link=pairs, random_state=0).fit(x)
    assert adjusted_rand_score(y, model.labels_) == 1


def test_y_counts_only_where_it_is_asked_for() -> None:
    x, y = blobs()
    few = np.where(np.arange(90) < 12, y, -1)
    plain = PseudoLabelClusterer(3, random_state=0)
    assert (plain.fit(x).labels_ == plain.fit(x, few).labels_).all()
    assert (PseudoLabelClusterer(3, use_labels=True, random_state=0).fit_predict(x, few) == y).all()
    with pytest.raises(ValueError, match='keep="labels" needs the labels of 2 rows'):
        PseudoLabelClusterer(3, keep="labels").fit(x)


def test_flowers_are_told_apart_better_than_by_k_means() -> None:
    x, y = load_iris(return_X_y=True)
    table = StandardScaler().fit_transform(x)
    before = KMeans(3, n_init=10, random_state=0).fit_predict(table)
    after = PseudoLabelClusterer(3, random_state=0).fit_predict(table)
    assert adjusted_rand_score(y, after) > adjusted_rand_score(y, before) + 0.05


@pytest.mark.parametrize(
    ("arguments", "y", "message"),
    [
        ({"use_labels": True}, np.array(["a"] * 90), "dtype <U1 but one integer a row is needed"),
        ({"keep": "labels"}, np.zeros(5, dtype=int), r"y has shape \(5,\)"),
        ({"must_link": [(0, 1, 2)]}, None, r"a rule has \(0, 1, 2\) but pairs of two row numbers"),
        ({"cannot_link": [(0.5, 1)]}, None, "but pairs of two row numbers are needed"),
        ({"selection": "elbow"}, None, "selection='elbow' is unknown"),
    ],
)
def test_wrong_input_is_refused_in_one_line(arguments: dict, y, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PseudoLabelClusterer(3, **arguments).fit(blobs()[0], y)


def test_noise_stays_noise_where_nothing_is_relabelled() -> None:
    x = np.concatenate([blobs()[0], [[50, 50], [-50, 50]]])
    model = PseudoLabelClusterer(clusterer=DBSCAN(eps=3), rounds=0, random_state=0).fit(x)
    assert model.labels_[-2:].tolist() == [-1, -1]
    assert model.n_clusters_ == 3
