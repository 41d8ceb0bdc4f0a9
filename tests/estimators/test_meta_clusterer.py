"""MetaClusterer: scikit-learn's contract, what it finds, mixed tables, large tables, bad tables."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs, make_circles, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from metalit.estimators import MetaClusterer


# array API input needs SCIPY_ARRAY_API to be set before scipy is imported
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input")
@parametrize_with_checks([MetaClusterer(), MetaClusterer(n_clusters=3, noise=True)])
def test_the_estimator_keeps_scikit_learns_contract(estimator, check) -> None:
    check(estimator)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        make_blobs(200, centers=[[0, 0], [9, 0], [0, 9]], random_state=0),
        make_moons(200, noise=0.05, random_state=0),
        make_circles(200, noise=0.03, factor=0.4, random_state=0),
    ],
    ids=["blobs", "moons", "circles"],
)
def test_clusters_of_any_shape_are_found(x, y) -> None:
    model = MetaClusterer(n_clusters=len(np.unique(y))).fit(x)
    assert adjusted_rand_score(y, model.labels_) > 0.95
    assert model.confidence_ > 0.7
    assert set(model.scores_) >= {"k-means", "learned genie"}


def test_the_number_of_clusters_is_found() -> None:
    x, y = make_blobs(300, centers=[[0, 0], [9, 0], [0, 9], [9, 9], [20, 20]], random_state=0)
    model = MetaClusterer().fit(x)
    assert model.n_clusters_ == 5
    assert adjusted_rand_score(y, model.labels_) == 1
    assert max(model.n_clusters_probabilities_, key=model.n_clusters_probabilities_.get) == 5
    assert sum(model.n_clusters_probabilities_.values()) == pytest.approx(1)


def test_predictions_agree_with_the_labels_and_with_the_probabilities() -> None:
    x, _ = load_iris(return_X_y=True)
    model = MetaClusterer(n_clusters=3).fit(x)
    assert np.array_equal(model.predict(x), model.labels_)
    shares = model.predict_proba(x)
    assert shares.shape == (150, 3)
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.array_equal(shares.argmax(axis=1), model.labels_)
    assert model.transform(x).shape == (150, 3)
    assert np.array_equal(model.fit_predict(x), model.labels_)


def test_distances_are_those_to_the_centres_of_the_standardised_table() -> None:
    x, _ = load_iris(return_X_y=True)
    model = MetaClusterer(n_clusters=3).fit(x)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    centres = np.stack([z[model.labels_ == k].mean(axis=0) for k in range(3)])
    expected = np.linalg.norm(z[:, None] - centres, axis=2)
    assert np.allclose(model.transform(x), expected)


def test_scales_of_columns_do_not_matter_and_text_and_gaps_are_read() -> None:
    x, y = make_blobs(240, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    frame = pd.DataFrame({"small": x[:, 0] / 1e6, "large": x[:, 1] * 1e6})
    frame["kind"] = np.where(y == 0, "oak", "ash")
    frame.loc[::17, "small"] = np.nan
    model = MetaClusterer(n_clusters=3).fit(frame)
    assert adjusted_rand_score(y, model.labels_) > 0.95
    assert adjusted_rand_score(y[:9], model.predict(frame.iloc[:9])) > 0.9


def test_noise_gets_the_label_minus_one_if_asked_for() -> None:
    x, _ = make_blobs(300, centers=[[0, 0], [9, 0]], random_state=0)
    far = np.random.default_rng(0).uniform(-15, 25, (12, 2))
    far = far[np.abs(far - [4.5, 0]).max(axis=1) > 9]
    table = np.concatenate([x, far])
    labels = MetaClusterer(n_clusters=2, noise=True).fit_predict(table)
    assert (labels[:300] == -1).mean() < 0.05
    assert set(np.unique(MetaClusterer(n_clusters=2).fit_predict(table))) == {0, 1}


def test_of_many_rows_a_subset_is_clustered_and_all_are_labelled() -> None:
    x, y = make_blobs(5000, centers=[[0, 0], [9, 0], [0, 9]], random_state=0)
    model = MetaClusterer(n_clusters=3, n_context=200).fit(x)
    assert len(model.clustering_.table) == 200
    assert adjusted_rand_score(y, model.labels_) > 0.99


def test_unsupervised_steps_never_lower_what_is_expected_of_a_method() -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=(150, 2)) * [3, 1] + np.repeat([[0, 0], [2, 2.0], [5, 0]], 50, 0)
    plain, adapted = MetaClusterer(3).fit(table), MetaClusterer(3, steps=10).fit(table)
    assert plain.scores_.keys() == adapted.scores_.keys()
    gains = [adapted.scores_[name] - score for name, score in plain.scores_.items()]
    assert min(gains) > -1e-9
    assert max(gains) > 1e-3  # a partition that was not there without the steps


def test_it_can_be_cloned_pickled_and_put_into_a_pipeline() -> None:
    x, _ = load_iris(return_X_y=True)
    model = clone(MetaClusterer(n_clusters=3, random_state=4)).fit(x)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(x), model.labels_)
    pipeline = make_pipeline(MinMaxScaler(), MetaClusterer(n_clusters=3))
    assert len(pipeline.fit_predict(x)) == 150


def test_column_names_come_out_of_transform() -> None:
    frame = load_iris(as_frame=True).data
    model = MetaClusterer(n_clusters=2).fit(frame)
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    assert model.get_feature_names_out().tolist() == ["metaclusterer0", "metaclusterer1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[1.0, np.inf], [2.0, 3.0]], "inf"),
        ([[1.0, 2.0]], "n_samples=1 should be >= n_clusters=2"),
        (np.empty((0, 3)), "0 sample"),
        (np.zeros(5), "Expected 2D array"),
    ],
)
def test_bad_tables_get_one_clear_error(table, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaClusterer(n_clusters=2).fit(table)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_clusters", "3"), ("n_clusters", 2.5), ("steps", 1.5), ("random_state", None)],
)
def test_arguments_that_are_no_whole_numbers_are_refused_by_name(name: str, value) -> None:
    with pytest.raises(TypeError, match=f"got {name}={value!r} but a whole number is needed"):
        MetaClusterer(**{name: value}).fit(np.eye(20))


def test_fewer_clusters_than_asked_for_give_a_warning() -> None:
    with pytest.warns(ConvergenceWarning, match="n_clusters=3 .* there are 2"):
        model = MetaClusterer(n_clusters=3).fit(np.eye(2).repeat(20, axis=0))
    assert model.n_clusters_ == 2


@pytest.mark.filterwarnings("ignore:n_clusters=3:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("k", [None, 1, 3])
def test_poor_tables_get_a_sound_answer(k) -> None:
    for table in (np.zeros((30, 2)), np.ones((3, 1)), np.eye(3).repeat(20, axis=0)):
        model = MetaClusterer(n_clusters=k).fit(table)
        different = len(np.unique(table, axis=0))
        assert model.labels_.max() + 1 == model.n_clusters_ <= different
        assert len(model.labels_) == len(table)


def test_no_clusters_are_refused() -> None:
    with pytest.raises(ValueError, match="n_clusters=0 but 1 or more are needed"):
        MetaClusterer(n_clusters=0).fit(np.eye(9))
