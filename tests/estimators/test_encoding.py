"""The table that a user has as numbers, against scikit-learn's own encoders."""

import pickle
import tracemalloc
import warnings
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from metalit.estimators import _encoding
from metalit.estimators._columns import read_table
from metalit.estimators._encoding import TableEncoder


class Halves(ClusterMixin, TransformerMixin, BaseEstimator):
    """The smallest estimator that reads tables as `MetaClusterer` and `MetaDetector` do."""

    def fit(self, X, y=None):  # noqa: N803
        frame = read_table(self, X, reset=True)
        self.encoder_ = TableEncoder().fit(frame)
        self.labels_ = self._cluster(self.encoder_.transform(frame))
        return self

    def transform(self, X):  # noqa: N803
        check_is_fitted(self)
        return self.encoder_.transform(read_table(self, X, reset=False))

    def predict(self, X):  # noqa: N803
        return self._cluster(self.transform(X))

    def _cluster(self, table):
        return (table[:, 0] > 0).astype(int)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.categorical = True
        return tags


# array API input needs SCIPY_ARRAY_API to be set before scipy is imported
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input")
@parametrize_with_checks([Halves()])
def test_an_estimator_that_reads_its_input_so_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def encode(x, **arguments):
    return Halves().fit(x) and TableEncoder(**arguments).fit(pd.DataFrame(x)).transform(
        pd.DataFrame(x)
    )


def mixed(rows=60, seed=0):
    draw = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": draw.normal(5, 3, rows),
            "colour": draw.choice(["red", "green", "blue"], rows),
            "text": [f"{value:.2f}" for value in draw.normal(size=rows)],
            "flag": draw.random(rows) < 0.3,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(draw.integers(0, 900, rows), "D"),
            "level": pd.Categorical.from_codes(draw.integers(0, 2, rows), [7, 9]),
            "count": pd.array(draw.integers(0, 9, rows), dtype="Int64"),
        }
    )
    frame.loc[3, "size"] = np.nan
    frame.loc[4, "colour"] = None
    frame.loc[5, ["text", "day", "count", "level"]] = ["", pd.NaT, pd.NA, np.nan]
    return frame


def test_a_table_of_numbers_is_standardised_as_by_scikit_learn():
    x = np.random.default_rng(0).normal([5, 0, 1e6], [1, 1e-5, 3e5], (50, 3))
    np.testing.assert_allclose(encode(x), StandardScaler().fit_transform(x), rtol=1e-10)


def test_a_missing_number_is_the_mean_of_the_others():
    x = np.array([[1.0], [3.0], [np.nan], [8.0]])
    encoded = encode(x).ravel()
    np.testing.assert_allclose(encoded[[0, 1, 3]], StandardScaler().fit_transform(x)[[0, 1, 3], 0])
    assert encoded[2] == 0


def test_every_column_comes_out_with_mean_zero_and_total_variance_one():
    frame = mixed(500).fillna({"size": 1.0})
    for name in ("size", "colour", "flag", "level"):
        encoded = encode(frame[[name]])
        np.testing.assert_allclose(encoded.mean(axis=0), 0, atol=1e-12)
        assert encoded.var(axis=0).sum() == pytest.approx(1)


def test_levels_are_one_hot_columns_of_scikit_learn_up_to_place_and_scale():
    frame = mixed()[["colour"]].fillna("none")
    expected = OneHotEncoder(sparse_output=False).fit_transform(frame)
    shares = expected.mean(axis=0)
    expected = (expected - shares) / np.sqrt(1 - (shares**2).sum())
    np.testing.assert_allclose(pdist(encode(frame)), pdist(expected))


def test_two_levels_give_the_distances_of_a_column_of_0_and_1():
    flags = np.random.default_rng(0).random(40) < 0.2
    words = np.where(flags, "yes", "no")[:, None]
    np.testing.assert_allclose(pdist(encode(words)), pdist(encode(flags[:, None])))


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["3.5", " 1", None, "-2e3", ""], [3.5, 1, np.nan, -2000, np.nan]),
        ([1, 2.5, pd.NA, "7", Decimal("8")], [1, 2.5, np.nan, 7, 8]),
        ([True, None, False, True, True], [1, np.nan, 0, 1, 1]),
        ([date(2020, 1, d) for d in (1, 5, 9, 2, 3)], [1, 5, 9, 2, 3]),
        ([timedelta(hours=h) for h in (1, 5, 9, 2, 3)], [1, 5, 9, 2, 3]),
        (pd.to_datetime(["2020-01-01", None, "2020-01-04"] * 2, utc=True), [1, np.nan, 4] * 2),
        (pd.array([1, None, 3, 4], dtype="Float64"), [1, np.nan, 3, 4]),
        (pd.arrays.SparseArray([0.0, 0.0, 3.0]), [0, 0, 3]),
    ],
    ids=str,
)
def test_cells_that_are_numbers_in_some_form_are_numbers(cells, numbers):
    given, expected = (pd.DataFrame({"a": column}) for column in (cells, numbers))
    np.testing.assert_allclose(encode(given), encode(expected.astype(float)), atol=1e-9)


def test_kinds_are_those_of_the_cells():
    frame = mixed().assign(key=[f"id{row}" for row in range(60)])
    with pytest.warns(UserWarning, match="'key' is left out"):
        encoder = TableEncoder().fit(frame)
    names = ["number", "category", "number", "number", "date", "category", "number", "identifier"]
    assert encoder.kinds_.tolist() == names
    assert encoder.n_columns_ == 5 + 4 + 3  # with a level for what is missing
    assert encoder.transform(frame).shape == (60, 12)


def test_a_list_of_lists_with_text_is_read():
    rows = [[1, "a"], [2.5, "b"], [None, "a"], [4, None]]
    assert encode(rows).shape == (4, 4)
    rows[2][0] = float("nan")  # by which NumPy makes text of all: "nan"
    np.testing.assert_array_equal(encode([[*row[:1], "a"] for row in rows])[2], [0, 0])
    assert encode([[1, "a"], [2, "b"], [3, "a"]]).shape == (3, 3)  # NumPy makes text of it


def test_a_row_is_encoded_alone_as_it_is_in_the_table(monkeypatch):
    frame = mixed()
    encoder = TableEncoder().fit(frame)
    whole = encoder.transform(frame)
    for row in (0, 3, 4, 5, 59):
        np.testing.assert_array_equal(encoder.transform(frame.iloc[[row]])[0], whole[row])
        as_objects = pd.DataFrame([frame.iloc[row].tolist()], columns=frame.columns, dtype=object)
        np.testing.assert_array_equal(encoder.transform(as_objects)[0], whole[row])
    monkeypatch.setattr(_encoding, "CELLS", 40)  # blocks of a few rows
    np.testing.assert_array_equal(encoder.transform(frame), whole)
    np.testing.assert_allclose(TableEncoder().fit(frame).transform(frame), whole, atol=1e-12)


def test_whole_numbers_are_one_level_however_pandas_holds_them():
    levels = pd.DataFrame({"a": pd.Categorical([3, 4, 3, 4])})
    encoder = TableEncoder().fit(levels)
    again = pd.DataFrame({"a": pd.Categorical([3.0, None, 4.0, 3.0])})
    np.testing.assert_array_equal(encoder.transform(again)[[0, 2]], encoder.transform(levels)[:2])


def test_levels_beyond_the_most_frequent_are_one_which_new_ones_join():
    words = np.repeat([f"w{k}" for k in range(40)], np.arange(40, 0, -1))[:, None]
    frame = pd.DataFrame(words)
    encoder = TableEncoder(max_categories=5).fit(frame)
    assert encoder.n_columns_ == 5
    w0, w39, new = encoder.transform(pd.DataFrame([["w0"], ["w39"], ["new"]]))
    np.testing.assert_array_equal(w39, new)
    assert (w0 != new).any()


def test_a_new_level_is_nearer_to_the_mean_than_any_known_one():
    encoder = TableEncoder().fit(pd.DataFrame({"a": list("xxyyz")}))
    norms = np.linalg.norm(encoder.transform(pd.DataFrame({"a": list("xyzn")})), axis=1)
    assert norms[3] < norms[:3].min()


def test_constant_empty_and_extreme_columns_stay_finite():
    x = np.random.default_rng(0).normal(size=(30, 6))
    x[:, 0], x[:, 1] = 7, np.nan
    x[:, 2] *= 1e300
    x[:, 3] *= 1e-300
    x[0, 4] = 1e308
    x[:, 5] *= 1e-155
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = TableEncoder().fit(pd.DataFrame(x))
        encoded = encoder.transform(pd.DataFrame(x))
        far = encoder.transform(pd.DataFrame([[8, 3, 1e308, 1e308, -1e308, 1e308]]))
    assert np.isfinite(encoded).all()
    assert np.isfinite(far).all()
    assert (encoded[:, :2] == 0).all()
    assert far[0, 0] == 1  # departs from a constant by the difference
    assert np.abs(far).max() == 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = TableEncoder(max_columns=2).fit(pd.DataFrame(x))
        assert np.isfinite(few.transform(pd.DataFrame([[8, 3, 1e308, 1e308, -1e308, 1e308]]))).all()


@pytest.mark.parametrize("column", [0, "a"])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_with_its_place(column, value, monkeypatch):
    monkeypatch.setattr(_encoding, "CELLS", 4)
    x = np.zeros((9, 2))
    x[7, 0] = value
    frame = pd.DataFrame(x).rename(columns={0: column})
    with pytest.raises(ValueError, match=rf"infinity: row 7, column {column!r}"):
        TableEncoder().fit(frame)
    encoder = TableEncoder().fit(frame[:5])
    with pytest.raises(ValueError, match="row 7"):
        encoder.transform(frame)


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (sparse.csr_array(np.eye(3)), TypeError, "Sparse data was passed"),
        (np.eye(3) + 1j, ValueError, "Complex data not supported"),
        (pd.DataFrame({"a": [1j, 2, 3]}), ValueError, "Complex data not supported: column 'a'"),
        (np.zeros(4), ValueError, "Expected 2D array"),
        (pd.Series([1.0, 2.0]), ValueError, "Expected 2D array|Expected a 2-dim"),
        (np.zeros((2, 2, 2)), ValueError, "Found array with dim 3"),
        (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\).*required by Halves"),
        (pd.DataFrame(index=[0, 1]), ValueError, r"0 feature\(s\)"),
        (pd.DataFrame({"a": [{}, [], 1]}), TypeError, "'a' holds {}"),
        ([["a"], ["b"], ["c"]], ValueError, "leaves no column"),
        (
            [["free text"] * 2001, ["other"] * 2001, ["free text"] * 2001],
            ValueError,
            "2001 columns",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_is_refused_in_one_line(x, kind, message):
    with pytest.raises(kind, match=message) as caught:
        Halves().fit(x)
    assert "Reshape" in str(caught.value) or "\n" not in str(caught.value)


def test_later_tables_must_have_the_columns_of_fit():
    frame = mixed()
    model = Halves().fit(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.rename(columns={"size": "weight"}))
    with pytest.raises(ValueError, match="same order"):
        model.predict(frame[frame.columns[::-1]])
    with pytest.raises(ValueError, match=r"7 features|missing"):
        model.predict(frame.drop(columns="size"))
    with pytest.raises(ValueError, match="'text' holds 'much' but every number"):
        model.predict(frame.assign(text="much"))
    with pytest.raises(ValueError, match="'day' holds 'soon' but every date"):
        model.predict(frame.assign(day="soon"))


@pytest.mark.parametrize(
    ("texts", "left_out"),
    [
        ([f"id{row}" for row in range(200)], True),
        ([f"note {row % 120}" for row in range(200)], True),
        ([f"town {row % 60}" for row in range(200)], False),
        (["a", "b", "a"], False),
        (["same"] * 5, False),
        ([None, None, "x", "y"], True),
    ],
    ids=["keys", "notes", "towns", "few rows", "constant", "mostly missing"],
)
def test_text_of_its_own_in_nearly_every_row_is_left_out_with_a_warning(texts, left_out):
    frame = pd.DataFrame({"t": texts, "x": np.arange(len(texts))})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = Halves().fit(frame)
    assert [str(w.message)[:22] for w in caught] == ["column 't' is left out"] * left_out
    assert all(w.filename == __file__ for w in caught)  # it points at the user's line
    assert (model.transform(frame).shape[1] == 1) == left_out


def test_many_columns_are_projected_and_keep_their_distances():
    draw = np.random.default_rng(0)
    common = draw.normal(size=(30, 1))  # without random signs it would add up
    x = (draw.normal(size=(30, 3000)) + common) * draw.exponential(9, 3000) + 5
    x[:, ::2] = 1.0  # constant columns have no variance to share
    frame = pd.DataFrame(x)
    plain = TableEncoder(max_columns=3000).fit(frame)
    fewer = TableEncoder(max_columns=500).fit(frame)
    ratio = pdist(fewer.transform(frame)) / pdist(plain.transform(frame))
    assert fewer.transform(frame).shape == (30, 500)
    assert ratio.std() / ratio.mean() < 0.05
    assert fewer.transform(frame).var(axis=0).mean() == pytest.approx(1, rel=0.1)
    again = TableEncoder(max_columns=500).fit(frame).transform(frame[:1])
    np.testing.assert_array_equal(again, fewer.transform(frame)[:1])


def test_a_hundred_thousand_columns_need_little_beside_the_table():
    x = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 100_000)))  # 48 MB
    tracemalloc.start()
    encoder = TableEncoder().fit(x)
    assert encoder.transform(x).shape == (60, 2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6


def test_an_encoder_can_be_pickled():
    frame = mixed()
    encoder = TableEncoder().fit(frame)
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.transform(frame), encoder.transform(frame))


def test_arguments_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="max_categories=1"):
        TableEncoder(max_categories=1)
    with pytest.raises(ValueError, match="max_columns=0"):
        TableEncoder(max_columns=0)


def test_a_table_without_any_value_is_refused():
    frame = pd.DataFrame({"a": [None, None], "b": [np.nan, np.nan]})
    with pytest.raises(ValueError, match="all cells of the 2 rows are missing"):
        TableEncoder().fit(frame)
