"""The meta-learned detector as an estimator of scikit-learn's and with PyOD's names."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from metalit.estimators import MetaDetector
from metalit.learners import AmortizedDetector


def table(n=150, outliers=10, seed=0):
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(n - outliers, 4)) @ draw.normal(size=(4, 4))
    return np.concatenate([rows, draw.uniform(-9, 9, size=(outliers, 4))])


# array API input needs SCIPY_ARRAY_API to be set before scipy is imported
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input")
@parametrize_with_checks([MetaDetector(), MetaDetector(weights=None)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.fixture
def detector():
    return MetaDetector(contamination=0.1, weights=None)


def test_outliers_of_the_table_itself_and_new_ones_are_found(detector):
    x = table()
    detector.fit(x)
    assert roc_auc_score(np.arange(150) >= 140, detector.decision_scores_) > 0.9
    new = table(seed=0)[:140] + 0.01
    far = np.full((5, 4), 30.0)
    assert detector.predict(far).tolist() == [-1] * 5
    assert (detector.predict(new) == 1).mean() > 0.85


def test_the_signs_are_those_of_scikit_learn_and_of_pyod(detector):
    x = table()
    detector.fit(x)
    np.testing.assert_allclose(detector.decision_scores_, -detector.score_samples(x))
    np.testing.assert_array_equal(detector.labels_ == 1, detector.predict(x) == -1)
    np.testing.assert_array_equal(detector.labels_ == 1, detector.decision_function(x) < 0)
    assert detector.labels_.sum() == 15
    probabilities = detector.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert probabilities[detector.decision_scores_.argmax(), 1] == 1


def test_contamination_moves_the_threshold_and_no_score():
    x = table()
    one, other = (MetaDetector(share, weights=None).fit(x) for share in (0.05, 0.2))
    np.testing.assert_array_equal(one.decision_scores_, other.decision_scores_)
    assert one.threshold_ > other.threshold_


def test_units_of_columns_and_their_order_change_nothing(detector):
    x, new = table(), table(seed=1)
    scores = detector.fit(x).score_samples(new)
    other = MetaDetector(weights=None).fit(x[:, ::-1] * 1000 + 7)
    np.testing.assert_allclose(other.score_samples(new[:, ::-1] * 1000 + 7), scores, atol=1e-6)


def test_mixed_columns_and_missing_values_are_taken(detector):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(table(), columns=list("wxyz"))
    frame["kind"] = draw.choice(["a", "b"], 150)
    frame.iloc[3, 1] = None
    scores = detector.fit(frame).score_samples(frame.iloc[:20])
    assert np.isfinite(scores).all()


def test_a_context_is_drawn_from_a_large_table_and_all_rows_are_scored():
    x = table(600, 20)
    small = MetaDetector(max_context=100, weights=None).fit(x)
    assert small.decision_scores_.shape == (600,)
    assert roc_auc_score(np.arange(600) >= 580, small.decision_scores_) > 0.9
    np.testing.assert_allclose(-small.score_samples(x), small.decision_scores_)


def test_a_table_of_very_many_rows_is_compared_with_fewer(monkeypatch):
    x = table(600, 20)
    expected = MetaDetector(max_context=150).fit(x).decision_scores_
    monkeypatch.setattr("metalit.estimators.meta_detector.PAIRS", 600 * 150)
    np.testing.assert_array_equal(MetaDetector().fit(x).decision_scores_, expected)


def test_transductive_scores_depend_on_the_query_and_find_a_common_anomaly():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 6))
    query = np.concatenate([draw.normal(size=(60, 6)), 1.0 + 0.4 * draw.normal(size=(40, 6))])
    truth = np.arange(100) >= 60
    alone, together = (MetaDetector(transductive=yes, weights=None).fit(x) for yes in (False, True))
    areas = [roc_auc_score(truth, -model.score_samples(query)) for model in (alone, together)]
    assert areas[1] > areas[0]
    assert not np.allclose(together.score_samples(query)[:50], together.score_samples(query[:50]))
    some = alone.score_samples(query[:50])
    np.testing.assert_allclose(alone.score_samples(query)[:50], some, rtol=1e-5)


def test_who_asks_about_new_rows_only_does_not_wait_for_the_scores_of_the_others(monkeypatch):
    judged = []
    original = AmortizedDetector.forward

    def forward(self, support, query):
        judged.append(len(query))
        return original(self, support, query)

    monkeypatch.setattr(AmortizedDetector, "forward", forward)
    detector = MetaDetector().fit(table())
    detector.score_samples(table(seed=1))
    assert judged == []
    assert detector.decision_scores_.shape == detector.labels_.shape == (150,)
    assert detector.threshold_ == -detector.offset_
    assert judged == [150]


def test_a_pickled_copy_answers_alike(detector):
    x = table()
    detector.fit(x)
    copy = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(copy.score_samples(x + 0.1), detector.score_samples(x + 0.1))


@pytest.mark.parametrize(
    ("x", "contamination", "message"),
    [
        (table(), 0.7, "contamination=0.7 is a share of rows: give one in"),
        (table(), "auto", "contamination='auto' is a share of rows: give one in"),
        (table()[:1], 0.1, "n_samples=1 but a row is compared with others: give 2 or more"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(x, contamination, message):
    with pytest.raises(ValueError, match=message):
        MetaDetector(contamination).fit(x)


def test_a_random_state_that_is_no_whole_number_is_refused_by_name():
    with pytest.raises(TypeError, match="got random_state=None but a whole number is needed"):
        MetaDetector(random_state=None).fit(table())


@pytest.mark.parametrize(
    "x",
    [np.ones((20, 3)), np.repeat(table()[:4], 5, axis=0), table()[:2]],
    ids=["constant", "duplicated", "two rows"],
)
def test_bad_tables_get_finite_scores(detector, x):
    assert np.isfinite(detector.fit(x).decision_scores_).all()


def test_a_table_without_any_value_is_refused(detector):
    with pytest.raises(ValueError, match="all cells of the 8 rows are missing"):
        detector.fit(np.full((8, 2), np.nan))


def test_the_shipped_weights_are_those_of_a_trained_detector():
    x = table()
    shipped, control = (MetaDetector(weights=weights).fit(x) for weights in ("detector", None))
    assert not np.allclose(shipped.decision_scores_, control.decision_scores_)
    assert roc_auc_score(np.arange(150) >= 140, shipped.decision_scores_) > 0.9
    with pytest.raises(ValueError, match=r"those of (AmortizedClusterer|PairwiseSimilarity)"):
        MetaDetector(weights="clusterer").fit(x)
