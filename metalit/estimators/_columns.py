"""What the columns of a user's table hold, and their cells as numbers or as text."""

from datetime import date, datetime, timedelta
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

DAY = pd.Timedelta(days=1)
EPOCH = pd.Timestamp(0, tz="UTC")
INFERRED = {  # by pandas.api.types.infer_dtype
    **dict.fromkeys(("integer", "floating", "mixed-integer-float", "boolean", "empty"), "number"),
    **dict.fromkeys(("datetime", "datetime64", "date"), "date"),
    **dict.fromkeys(("timedelta", "timedelta64"), "duration"),
}
COMPLEX = (  # begins as scikit-learn's own message, which has the whole table in it
    "Complex data not supported: {} has complex numbers, give their real and imaginary parts as "
    "columns of their own."
)
MISSING = {"", "<na>", "n/a", "na", "nan", "none", "null"}  # most of what pandas.read_csv takes
FEW = 50  # levels that are never too many for a category, if one of them repeats


def read_table(estimator: BaseEstimator, x: Any, reset: bool) -> pd.DataFrame:
    """Check the shape of a table, and names and number of its columns, for an estimator.

    The errors are scikit-learn's own, under the name of the estimator. With `reset` its attributes
    `n_features_in_` and `feature_names_in_` are set. What the cells hold is not looked at.

    Args:
        estimator: Takes the table.
        x: Data frame, array or list of lists, of shape `(N, D)`.
        reset: True in `fit`.
    """
    if isinstance(x, pd.DataFrame) and 0 not in x.shape:  # a frame may be large and is not copied
        validate_data(estimator, x, skip_check_array=True, reset=reset)
        return x
    if isinstance(x, np.ndarray) and x.dtype.kind == "c":
        raise ValueError(COMPLEX.format(type(x).__name__))
    given = np.empty(x.shape) if isinstance(x, pd.DataFrame) else x
    table = check_array(given, dtype=None, ensure_all_finite=False, estimator=estimator)
    validate_data(estimator, x, skip_check_array=True, reset=reset)
    return pd.DataFrame(table, copy=False)


def is_plain(dtype: Any) -> bool:
    """Whether a column holds integers, floats or booleans, as pandas or NumPy declares it."""
    return dtype.kind in "biuf" and not isinstance(dtype, pd.CategoricalDtype)


def kind_of(column: pd.Series) -> str:
    """Return "number", "date", "duration" or "category".

    Text is a number if every value that is not missing is one.

    Raises:
        TypeError: If a cell is none of them, nor text.
        ValueError: If the numbers are complex.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "category"
    if is_plain(column.dtype):
        return "number"
    inferred = str(pd.api.types.infer_dtype(column, skipna=True))
    if inferred == "complex":
        raise ValueError(COMPLEX.format(f"column {column.name!r}"))
    if inferred in INFERRED:
        return INFERRED[inferred]
    known = ~is_missing(column)
    if not np.isnan(_parse(column)[known]).any():
        return "number"
    readable = str | Number | date | datetime | timedelta
    for value in column[known]:
        if not isinstance(value, readable):
            # the middle of this sentence is scikit-learn's, and its checks ask for it
            raise TypeError(
                f"column {column.name!r} holds {value!r} but argument must be a string or a "
                "number: write it as one."
            )
    return "category"


def is_missing(column: pd.Series) -> NDArray[np.bool_]:
    """Where a cell is None, NaN, NaT, pandas' NA, or blank or says so, shape `(N,)`."""
    missing = np.array(column.isna(), dtype=bool)  # a copy, which can be written to
    if column.dtype.kind == "O":
        said = [isinstance(v, str) and v.strip().lower() in MISSING for v in column]
        missing |= np.array(said, dtype=bool)
    return missing


def as_numbers(column: pd.Series, kind: str) -> NDArray[np.float64]:
    """Return numbers, or days since 1970 for dates, or days for durations; NaN where missing.

    Raises:
        ValueError: If a cell cannot be read as what its column held before.
    """
    if kind == "number" and is_plain(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan)
    column = column.astype(object)
    known = ~is_missing(column)
    if kind == "number":
        numbers = _parse(column)
    elif kind == "date":
        dates = pd.to_datetime(column.where(known), utc=True, errors="coerce")
        numbers = np.asarray((dates - EPOCH) / DAY, dtype=np.float64)
    else:
        times = pd.to_timedelta(column.where(known), errors="coerce")
        numbers = np.asarray(times / DAY, dtype=np.float64)
    unreadable = np.flatnonzero(np.isnan(numbers) & known)
    if len(unreadable):
        raise ValueError(
            f"column {column.name!r} holds {column.iloc[unreadable[0]]!r} but every {kind} in it "
            "must be readable: correct the cell, or leave it missing."
        )
    return numbers


def as_texts(column: pd.Series) -> NDArray[Any]:
    """Return the levels of a category as text, "" where missing, shape `(N,)`.

    3, 3.0 and "3" are one level: pandas turns whole numbers into floats where one is missing.
    """
    missing = is_missing(column)
    texts = [
        "" if lost else _text(value)
        for lost, value in zip(missing, column.astype(object), strict=True)
    ]
    return np.array(texts, dtype=object)


def is_identifier(texts: NDArray[Any]) -> bool:
    """Whether nearly every row has a level of its own, as names, keys and free text do."""
    known = texts[texts != ""]
    levels = len(set(known))
    return 1 < levels == len(known) or levels > max(FEW, len(known) / 2)


def _parse(column: pd.Series) -> NDArray[np.float64]:
    texts = [value.strip() if isinstance(value, str) else value for value in column]
    numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce")
    return np.asarray(numbers, dtype=np.float64)


def _text(value: Any) -> str:
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value).strip()
