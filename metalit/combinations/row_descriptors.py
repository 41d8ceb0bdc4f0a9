"""What the weights of a super learner may know of a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..scikit import as_table, seeded_clone


def split_columns(x: Tensor, side_columns: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Part inputs `(N, *features)` into what base learners see and the side table `(N, J)`.

    Raises:
        ValueError: If a column is not there, or none is left for the base learners.
    """
    if len(side_columns) == 0:
        return x, x.new_zeros(len(x), 0)
    table = x.flatten(1)
    width = table.shape[1]
    wrong = [
        c for c in side_columns if not isinstance(c, int | np.integer) or not -width <= c < width
    ]
    if wrong:
        raise ValueError(
            f"side_columns has {wrong[0]!r} but x has {width} columns: give numbers from 0 to "
            f"{width - 1}."
        )
    side = [int(column) % width for column in side_columns]
    others = [column for column in range(width) if column not in side]
    if not others:
        raise ValueError(
            f"side_columns={list(side_columns)} are all {width} columns of x but base learners "
            "need one or more: leave some out."
        )
    return table[:, others], table[:, side]


class RowDescriptors:
    """Describes rows: by a one, the side table, and what a transformer makes of the other columns.

    Args:
        x: Inputs that the transformer and the scale of the descriptors are fitted to.
        transformer: A scikit-learn transformer, or None.
        side_columns: Columns of the side table.
        seed: Where each `random_state` in the transformer comes from.
    """

    def __init__(
        self,
        x: Tensor,
        transformer: BaseEstimator | None,
        side_columns: Sequence[int],
        seed: int,
    ) -> None:
        self._side_columns = side_columns
        self._transformer: Any = None
        self._scaler: Any = None
        if transformer is not None:
            visible = as_table(split_columns(x, side_columns)[0])
            self._transformer = seeded_clone(transformer, seed).fit(visible)
        table = self._table(x)
        if table.shape[1] > 0:
            self._scaler = StandardScaler().fit(table)

    def __call__(self, x: Tensor) -> Tensor:
        """Return descriptors of shape `(N, 1 + J)`, float64, on the CPU."""
        ones = torch.ones(len(x), 1, dtype=torch.float64)
        if self._scaler is None:
            return ones
        scaled = torch.as_tensor(np.asarray(self._scaler.transform(self._table(x))))
        return torch.cat([ones, scaled.to(ones)], dim=1)

    def _table(self, x: Tensor) -> np.ndarray[Any, Any]:
        visible, side = split_columns(x, self._side_columns)
        parts = [as_table(side)]
        if self._transformer is not None:
            parts.append(np.asarray(self._transformer.transform(as_table(visible))))
        return np.concatenate(parts, axis=1)
