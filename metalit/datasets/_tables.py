"""Arrays and labels out of .npz, .npy, .csv and .parquet files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

_KEYS = ("x", "X", "images")
# examples as stored, labels as stored, column names of a table
Raw = tuple[NDArray[np.generic], NDArray[np.generic] | None, Sequence[str] | None]


def read_npz(file: Path, label: str | None) -> Raw:
    """Read an .npz, or an .npy, which has no labels."""
    try:
        with file.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            arrays = {"x": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # numpy raises ValueError, EOFError, BadZipFile, zlib.error and more
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{file} cannot be read ({reason}): save arrays of numbers or text with np.savez."
        ) from error
    key = next((name for name in _KEYS if name in arrays), None)
    if key is None or (label is not None and label not in arrays):
        needed = f"label={label!r}" if key else "x, X or images"
        raise ValueError(
            f"{file} holds the arrays {sorted(arrays)} but not {needed}: save it under that name."
        )
    return arrays[key], arrays.get("y" if label is None else label), None


def read_csv(file: Path, label: str | None) -> Raw:
    """Read a .csv whose first line has the column names."""
    import pandas as pd

    column = label or "label"
    try:
        frame = pd.read_csv(file, low_memory=False)
        if column in frame:  # as text, since a class may be named "NA" or "None"
            only = pd.read_csv(file, usecols=[column], dtype=str, keep_default_na=False)
            frame[column] = only[column].to_numpy()
    except (ValueError, OSError) as error:  # ParserError, EmptyDataError and UnicodeDecodeError too
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{file} cannot be read as a table ({reason}): repair it.") from error
    names = [str(name) for name in frame.columns]
    if all(map(_is_number, names)) and names != [str(i) for i in range(len(names))]:
        raise ValueError(
            f"the first line of {file} is all numbers ({', '.join(names[:3])} ...) but should hold "
            "the column names: add a line with them."
        )
    if not frame.index.equals(
        pd.RangeIndex(len(frame))
    ):  # pandas takes what is left over for an index
        raise ValueError(
            f"the rows of {file} have more cells than the {len(names)} column names of its first "
            "line: add names or drop cells."
        )
    if names[0] == "Unnamed: 0":
        frame = frame.drop(columns="Unnamed: 0")
    return _features_and_labels(frame, file, label)


def read_parquet(file: Path, label: str | None) -> Raw:
    """Read a .parquet table."""
    import pandas as pd

    try:
        frame = pd.read_parquet(file)
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{file} cannot be read as a table ({reason}): repair it.") from error
    return _features_and_labels(frame, file, label)


def _features_and_labels(frame: pd.DataFrame, file: Path, label: str | None) -> Raw:
    """Take the label column off a table and check that all others are numbers."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    names = [str(name) for name in frame.columns]
    frame.columns = names
    column = label or ("label" if "label" in names else None)
    if column is not None and column not in names:
        raise ValueError(f"{file} has no column {column!r} but {names}: correct label.")
    features = frame if column is None else frame.drop(columns=column)
    if len(frame) == 0:
        raise ValueError(f"{file} holds 0 examples: add a row for each.")
    if features.shape[1] == 0:
        raise ValueError(f"{file} has no column but the labels: add one with numbers.")
    for name in features.columns:
        if not (is_numeric_dtype(features[name].dtype) or is_bool_dtype(features[name].dtype)):
            example = features[name].dropna().astype(str).head(1).tolist()
            raise ValueError(
                f"column {name!r} of {file} holds {''.join(example) or 'nothing'!r} but features "
                f"are numbers: encode it, drop it, or pass label={name!r} if it is the label."
            )
    x = features.to_numpy(dtype=np.float64, na_value=np.nan)
    y = None if column is None else _label_array(frame[column])
    return x, y, list(features.columns)


def _label_array(column: pd.Series) -> NDArray[np.generic]:
    """Numbers as float64 with NaN for a missing one where all are numbers, else text with ""."""
    missing = column.isna().to_numpy()
    text = np.where(missing, "", column.astype(object).astype(str).to_numpy()).astype(str)
    text = np.strings.strip(text)
    if not all(_is_number(value) for value in text if value):
        return text
    return np.array([float(value) if value else np.nan for value in text])


def as_labels(y: NDArray[np.generic], path: str, targets: bool = False) -> NDArray[np.generic]:
    """Give labels one of three forms: text with "", int64 with -1 or float64 with NaN.

    Args:
        y: Labels of shape `(N,)`, or `(N, 1)`.
        path: For the message.
        targets: Keep numbers as they are, a missing one as NaN, even if all are whole.

    Raises:
        ValueError: If they have another shape or are neither text nor numbers.
    """
    flat = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if flat.ndim != 1 or flat.dtype.kind not in "biufUS":
        raise ValueError(
            f"the labels of {path} have shape {y.shape} and dtype {y.dtype} but should be one text "
            "or number an example: reshape or encode them."
        )
    if flat.dtype.kind in "US":
        return flat.astype(str)
    if flat.dtype.kind == "f":
        given = ~np.isnan(flat)
        if targets or not np.array_equal(flat[given], np.round(flat[given])):
            return flat.astype(np.float64)
        return np.where(given, flat, -1).astype(np.int64)
    return flat.astype(np.int64)


def as_features(
    x: NDArray[np.generic], columns: Sequence[str] | None, path: str
) -> NDArray[np.generic]:
    """Give examples the form of a data set: uint8 or float32 images, or a float32 table.

    Args:
        x: Examples of shape `(N, D)`, `(N, H, W)`, `(N, H, W, C)` or `(N, C, H, W)`.
        columns: Names of the D columns for the message, if they have names.
        path: For the message.

    Raises:
        ValueError: If they are no numbers, of another shape, NaN, infinite, or out of range.
    """
    if x.dtype.kind not in "biuf" or x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(
            f"the examples of {path} have shape {x.shape} and dtype {x.dtype} but should be "
            "numbers of shape (N, columns), (N, H, W), (N, H, W, C) or (N, C, H, W): reshape or "
            "encode them."
        )
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] <= 4 < x.shape[1]:
        x = x.transpose(0, 3, 1, 2)
    if x.ndim == 4 and x.dtype.kind in "iu":
        if x.min() < 0 or x.max() > 255:
            raise ValueError(
                f"the images of {path} are whole numbers from {x.min()} to {x.max()} but should be "
                "0 to 255: scale them, or divide them to fractions of 0 to 1."
            )
        return np.ascontiguousarray(x, dtype=np.uint8)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite and is reported
        numbers = np.ascontiguousarray(x, dtype=np.float32)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        row, *rest = bad[0].tolist()
        place = f"column {columns[rest[0]]!r}" if columns else f"index {tuple(rest)}"
        raise ValueError(
            f"{len(bad)} values of {path} are NaN or infinite, the first in row {row} (counted "
            f"from 0), {place}: fill them or drop the rows."
        )
    return numbers


def _is_number(text: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
