"""The super learner in scikit-learn's way, by scikit-learn's own checks and by hand."""

import pickle

import numpy as np
import pytest
from joblib import dump, load
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from metalit.estimators import SuperLearnerClassifier, SuperLearnerRegressor

CLASSIFIERS = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(max_depth=4))]
REGRESSORS = [("ridge", Ridge()), ("tree", DecisionTreeRegressor(max_depth=4))]


@parametrize_with_checks(
    [
        SuperLearnerClassifier(CLASSIFIERS, cv=2, random_state=0),
        SuperLearnerRegressor(REGRESSORS, cv=2, random_state=0),
    ]
)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def test_the_default_base_learners_work():
    x, y = load_wine(return_X_y=True)
    model = SuperLearnerClassifier(cv=3, random_state=0).fit(x[::2], y[::2])
    assert model.score(x[1::2], y[1::2]) > 0.9
    assert list(model.weights_) == ["logistic", "neighbours", "forest"]


def test_it_works_in_a_pipeline_a_grid_search_and_after_pickling(tmp_path):
    x, y = load_wine(return_X_y=True)
    names = np.array(["red", "white", "rose"])[y]
    pipeline = make_pipeline(StandardScaler(), SuperLearnerClassifier(CLASSIFIERS, random_state=0))
    grid = {"superlearnerclassifier__tree__max_depth": [1, 4]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=1).fit(x, names)
    fitted = search.best_estimator_
    assert set(fitted.predict(x)) == {"red", "white", "rose"}
    dump(fitted, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(fitted)), load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))


def test_a_clone_with_the_same_seed_gives_the_same_numbers():
    x, y = load_wine(return_X_y=True)
    model = SuperLearnerClassifier(CLASSIFIERS, solver="random_search", random_state=3).fit(x, y)
    np.testing.assert_array_equal(clone(model).fit(x, y).predict_proba(x), model.predict_proba(x))


def test_probabilities_are_the_mixture_of_those_of_the_base_learners():
    x, y = load_wine(return_X_y=True)
    stump = DecisionTreeClassifier(max_depth=2)
    named = [("near", KNeighborsClassifier(15)), ("stump", stump)]
    model = SuperLearnerClassifier(named, alpha=1.0, random_state=0).fit(x[::2], y[::2])
    assert model.report_["kept"] == "combination"
    near = KNeighborsClassifier(15).fit(x[::2], y[::2]).predict_proba(x[1::2])
    rest = model.predict_proba(x[1::2]) - model.weights_["near"] * near
    assert rest.min() > -1e-6
    np.testing.assert_allclose(rest.sum(1), model.weights_["stump"], atol=1e-6)
    assert 0.05 < model.weights_["near"] < 0.95


def test_several_targets_are_predicted_together():
    x, y = load_diabetes(return_X_y=True)
    model = SuperLearnerRegressor(REGRESSORS, random_state=0).fit(x, np.stack([y, -y], axis=1))
    predictions = model.predict(x)
    assert predictions.shape == (442, 2)
    np.testing.assert_allclose(predictions[:, 0], -predictions[:, 1])


def test_folds_may_be_a_whole_number_of_numpy():
    x, y = load_wine(return_X_y=True)
    assert SuperLearnerClassifier(CLASSIFIERS, cv=np.int64(3)).fit(x, y).score(x, y) > 0.9


def test_the_random_state_reaches_the_folds():
    x, y = load_wine(return_X_y=True)
    bayes = [("a", GaussianNB()), ("b", GaussianNB(var_smoothing=0.1))]
    losses = [
        SuperLearnerClassifier(bayes, random_state=state).fit(x, y).report_["held_out_loss"]
        for state in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_twins_are_no_better_than_one():
    x, y = load_iris(return_X_y=True)
    model = SuperLearnerClassifier([("a", GaussianNB()), ("b", GaussianNB())]).fit(x, y)
    assert model.report_["kept"] == "a"


def test_six_rows_are_enough_for_the_defaults():
    x, y = load_iris(return_X_y=True)
    rows = [0, 1, 2, 50, 51, 52]
    assert (
        SuperLearnerClassifier(random_state=0).fit(x[rows], y[rows]).score(x[rows], y[rows]) > 0.8
    )
    assert SuperLearnerRegressor(random_state=0).fit(x[rows], x[rows, 0]).score(x, x[:, 0]) > 0


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_weights_of_a_regressor_do_not_depend_on_the_unit(scale):
    x, y = load_diabetes(return_X_y=True)
    named = [("ridge", Ridge()), ("near", KNeighborsRegressor())]  # trees break ties by rounding
    plain, scaled = (
        SuperLearnerRegressor(named, alpha=1, random_state=0).fit(x, unit * y)
        for unit in (1.0, scale)
    )
    assert plain.weights_ == pytest.approx(scaled.weights_, abs=1e-3)
    np.testing.assert_allclose(scaled.predict(x), scale * plain.predict(x), rtol=1e-3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"estimators": []}, "needs at least one"),
        ({"estimators": [("a", GaussianNB()), ("a", LogisticRegression())]}, "all different"),
        ({"solver": "newton"}, "solver='newton' is unknown: choose from"),
        ({"cv": 1}, "folds must be at least 2"),
        ({"cv": KFold(3)}, "at least 2, a whole number"),
        ({"estimators": [GaussianNB()]}, "a list needs at least one .name, estimator."),
        ({"estimators": {"a": GaussianNB()}}, "a list needs at least one"),
        ({"estimators": [("keys", GaussianNB())]}, "cannot be called 'keys'"),
        ({"side_columns": [99]}, "side_columns has 99 but x has 13 columns"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(parameters, message):
    x, y = load_wine(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        SuperLearnerClassifier(**parameters).fit(x, y)


@pytest.mark.parametrize(
    ("model", "wrong", "message"),
    [
        (SuperLearnerClassifier, Ridge(), "Ridge is a regressor, which SklearnClassifier does not"),
        (SuperLearnerRegressor, GaussianNB(), "GaussianNB is a classifier, which SklearnRegressor"),
    ],
)
def test_the_wrong_kind_of_base_learner_is_refused_in_one_line(model, wrong, message):
    x, y = load_wine(return_X_y=True)
    with pytest.raises(TypeError, match=message):
        model([("wrong", wrong)]).fit(x, y)
