"""From the table that a user has to a finite table of numbers."""

import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ._columns import as_numbers, as_texts, is_identifier, is_plain, kind_of

Table = NDArray[np.float64]

CELLS = 2**22  # cells encoded at once: 32 MiB, whatever the size of the table
LARGEST = 1e150  # number as given: its square is finite
FARTHEST = 1e6  # number as encoded, in standard deviations: its square fits float32


class TableEncoder:
    """Encodes a table with mixed columns as finite numbers of one scale.

    Every column weighs about as much as any other: it comes out with mean 0 and total variance 1.

    - Numbers are standardised (`StandardScaler`). Text in which every value is a number, booleans,
      dates and durations are numbers too. A missing value is the mean.
    - Other text and pandas categories are one-hot encoded (`OneHotEncoder`), and the block of
      columns is divided by the root of its total variance. A column of two levels thereby gives
      the distances that it would give as a column of 0 and 1. Missing, or blank, is a level of its
      own; all levels but the `max_categories - 1` most frequent are one, which levels that `fit`
      has not seen join.
    - Text in which nearly every row has a level of its own (names, keys, free text) sets all rows
      equally far apart: the column is left out, with a warning.
    - A column that is constant in `fit` comes out as 0. Later rows that depart from it do so by
      the difference itself, as with `StandardScaler`.
    - Where this makes more than `max_columns`, each is added to one of so many, chosen at random
      and with a random sign, from a fixed seed (count sketch; Charikar et al., 2002). Squared
      Euclidean distances stay as they were, up to one factor for all and a relative error of about
      `sqrt(2 / max_columns)`. The mean variance of the columns is 1 again.

    Each row is encoded independently of the others, in blocks that need little memory. Values
    farther than a million standard deviations are put there.

    An estimator reads its input by `read_table`, and sets the tags `input_tags.allow_nan` and
    `input_tags.categorical`.

    Args:
        max_categories: Largest number of columns for one column of text, at least 2.
        max_columns: Largest number of columns in all, and of columns of text.
        random_state: Seed of the sketch.

    Attributes:
        kinds_: What each column is taken for: "number", "date", "duration", "category" or
            "identifier", which is left out.
        n_columns_: Columns of what `transform` returns.

    Raises:
        ValueError: If an argument is too small.

    Example:
        >>> x = pd.DataFrame({"size": [1.0, 3.0, None], "colour": ["red", "blue", "red"]})
        >>> TableEncoder().fit(x).transform(x).shape
        (3, 3)

    References:
        Finding Frequent Items in Data Streams, https://doi.org/10.1007/3-540-45465-9_59
    """

    def __init__(
        self, max_categories: int = 20, max_columns: int = 2000, random_state: int = 0
    ) -> None:
        if max_categories < 2 or max_columns < 1:
            raise ValueError(
                f"got max_categories={max_categories} and max_columns={max_columns} but at least "
                "2 and 1 are needed: raise the one that is too small."
            )
        self.max_categories = max_categories
        self.max_columns = max_columns
        self.random_state = random_state

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn kinds, scales and levels of the columns of a table `(N, D)`.

        Raises:
            TypeError: If a cell is neither a number, text nor a date.
            ValueError: If a number is infinite or complex, there are more than `max_columns`
                columns of text, or all columns are identifiers.
        """
        if all(bool(frame.iloc[:, place].isna().all()) for place in range(frame.shape[1])):
            raise ValueError(
                f"all cells of the {len(frame)} rows are missing but one value at least is needed: "
                "give a table with values."
            )
        kinds = [
            "number" if is_plain(dtype) else kind_of(frame.iloc[:, place])
            for place, dtype in enumerate(frame.dtypes)
        ]
        texts = [place for place, kind in enumerate(kinds) if kind == "category"]
        if len(texts) > self.max_columns:
            raise ValueError(
                f"X has {len(texts)} columns of text but at most {self.max_columns} can be "
                "encoded: drop some, or write them as numbers."
            )
        for place in texts:
            if is_identifier(as_texts(frame.iloc[:, place])):
                kinds[place] = "identifier"
        self.kinds_ = np.array(kinds, dtype=object)
        self._warn_of_identifiers(frame)
        self._texts = np.flatnonzero(self.kinds_ == "category")
        self._others = np.flatnonzero(np.isin(self.kinds_, ["number", "date", "duration"]))
        variance = self._fit_levels(frame) + self._fit_numbers(frame)
        width = len(self._others) + len(self._means)
        self.n_columns_ = min(width, self.max_columns)
        if width > self.max_columns:
            self._sketch = self._draw_sketch(width) * (self.max_columns / max(variance, 1)) ** 0.5
        return self

    def transform(self, frame: pd.DataFrame) -> Table:
        """Encode the rows of a table `(N, D)` as `(N, n_columns_)`, finite.

        Args:
            frame: Has the columns of `fit`, in their order.

        Raises:
            ValueError: If a number is infinite, or a cell of a numeric column cannot be read.
        """
        encoded = np.empty((len(frame), self.n_columns_))
        for rows in self._blocks(frame):
            part = frame.iloc[rows]
            block = np.hstack([self._encode_numbers(part, rows.start), self._encode_levels(part)])
            if self.n_columns_ < block.shape[1]:
                block = block @ self._sketch
            encoded[rows] = block
        return encoded

    def _warn_of_identifiers(self, frame: pd.DataFrame) -> None:
        dropped = np.flatnonzero(self.kinds_ == "identifier")
        if not len(dropped):
            return
        names = ", ".join(repr(frame.columns.tolist()[place]) for place in dropped[:5])
        names += f" and {len(dropped) - 5} more" if len(dropped) > 5 else ""
        if len(dropped) == len(self.kinds_):
            raise ValueError(
                f"nearly every row has a text of its own in column {names}, which leaves no "
                "column to learn from: give columns of numbers, or of levels that repeat."
            )
        warnings.warn(
            f"column {names} is left out, since nearly every row has a text of its own there: "
            "drop it, or write it as numbers.",
            stacklevel=4,  # where the user calls `fit` of an estimator
        )

    def _blocks(self, frame: pd.DataFrame) -> Iterator[slice]:
        """Rows that are encoded at once."""
        size = max(1, CELLS // (len(self._others) + len(self._means)))
        yield from (slice(start, start + size) for start in range(0, len(frame), size))

    def _draw_sketch(self, width: int) -> sparse.csr_array:
        draw = np.random.default_rng(self.random_state)
        places = draw.permutation(np.arange(width) % self.max_columns)
        signs = draw.choice([-1.0, 1.0], width)
        shape = (width, self.max_columns)
        return sparse.csr_array((signs, (np.arange(width), places)), shape=shape)

    def _fit_levels(self, frame: pd.DataFrame) -> float:
        """Learn the levels; returns the total variance that comes out."""
        self._means = self._roots = np.empty(0)
        if not len(self._texts):
            return 0.0
        self._one_hot = OneHotEncoder(
            max_categories=self.max_categories, handle_unknown="infrequent_if_exist"
        )
        encoded = self._one_hot.fit_transform(self._levels(frame))
        self._means = np.asarray(encoded.mean(axis=0)).ravel()
        widths = [
            len(known) - (0 if rare is None else len(rare) - 1)  # rare levels share a column
            for known, rare in zip(
                self._one_hot.categories_, self._one_hot.infrequent_categories_, strict=True
            )
        ]
        starts = np.cumsum([0, *widths[:-1]])
        variances = np.add.reduceat(self._means * (1 - self._means), starts)
        self._roots = np.repeat(np.where(variances > 0, variances, 1) ** 0.5, widths)
        return float(np.count_nonzero(variances))

    def _fit_numbers(self, frame: pd.DataFrame) -> float:
        """Learn the scales; returns the total variance that comes out."""
        size = max(1, CELLS // len(frame))
        parts = np.array_split(self._others, np.arange(size, len(self._others), size))
        # one by one, since a block of rows may have no value in some column
        scalers = [self._fit_scaler(frame, places) for places in parts if len(places)]
        self._centres = np.concatenate([np.empty(0), *(scaler.mean_ for scaler in scalers)])
        self._scales = np.concatenate([np.empty(0), *(scaler.scale_ for scaler in scalers)])
        # of a constant column, and of one without a value, the scale is no standard deviation
        varied = [np.count_nonzero(s.scale_ == np.sqrt(s.var_)) for s in scalers]
        return float(sum(varied))

    def _fit_scaler(self, frame: pd.DataFrame, places: NDArray[np.intp]) -> StandardScaler:
        numbers = self._numbers(frame.iloc[:, places], self.kinds_[places])
        with np.errstate(invalid="ignore"):  # the mean of no value
            return StandardScaler(copy=False).fit(numbers)

    def _levels(self, part: pd.DataFrame) -> NDArray[Any]:
        columns = [as_texts(part.iloc[:, int(place)]) for place in self._texts]
        return np.column_stack(columns)

    def _encode_levels(self, part: pd.DataFrame) -> Table:
        if not len(self._texts):
            return np.empty((len(part), 0))
        one_hot = self._one_hot.transform(self._levels(part)).toarray()
        return np.asarray((one_hot - self._means) / self._roots)

    def _encode_numbers(self, part: pd.DataFrame, start: int) -> Table:
        part = part if len(self._others) == part.shape[1] else part.iloc[:, self._others]
        numbers = self._numbers(part, self.kinds_[self._others], start)
        with np.errstate(over="ignore"):  # far is far
            numbers = (numbers - self._centres) / self._scales
        filled = np.nan_to_num(numbers, copy=False, nan=0.0)  # the mean
        return np.asarray(np.clip(filled, -FARTHEST, FARTHEST, out=filled))

    def _numbers(self, part: pd.DataFrame, kinds: NDArray[Any], start: int = 0) -> Table:
        """Cells of numeric columns, NaN where missing; `start` is the number of the first row."""
        if all(map(is_plain, part.dtypes)):  # at once, since there may be many
            numbers = np.array(part.to_numpy(np.float64, na_value=np.nan))
        else:
            columns = [as_numbers(part.iloc[:, k], kind) for k, kind in enumerate(kinds)]
            numbers = np.column_stack(columns)
        if np.isinf(numbers).any():
            row, place = np.argwhere(np.isinf(numbers))[0]
            raise ValueError(
                f"X contains infinity: row {row + start}, column {part.columns.tolist()[place]!r}: "
                "replace it, by NaN if it is missing."
            )
        return np.clip(numbers, -LARGEST, LARGEST, out=numbers)
