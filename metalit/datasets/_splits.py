"""How the rows of a data set become its training, validation and test split."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val", "test")


class Selection(NamedTuple):
    """The rows of one split.

    Attributes:
        rows: Row numbers of shape `(n,)`, int64, ascending.
        y: Class numbers of these rows, int64, -1 for "no label"; None if no row has a label.
        classes: Class names in the order of `y`; empty without labels.
    """

    rows: NDArray[np.int64]
    y: NDArray[np.int64] | None
    classes: list[str]


def check_split(split: str) -> None:
    """Raise a ValueError unless `split` is one of the three names."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown: use 'train', 'val' or 'test'.")


def check_parts(fractions: Sequence[float], by: str) -> None:
    """Raise a ValueError unless three shares, none negative, sum to 1 and `by` is known."""
    fits = len(fractions) == 3 and min(fractions) >= 0 and abs(sum(fractions) - 1) < 1e-6
    if not fits or fractions[0] == 0:
        raise ValueError(
            f"fractions={list(fractions)} should be the shares of train, val and test, at least "
            "0, with a sum of 1 and something for train: for example 0.7, 0.15, 0.15."
        )
    if by not in ("class", "row"):
        raise ValueError(f"by={by!r} is unknown: use 'class' or 'row'.")


def encode_labels(labels: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    """Number the classes in sorted order.

    Args:
        labels: Text or whole numbers of shape `(N,)`; "" and -1 mean "no label".

    Returns:
        Class numbers of shape `(N,)`, -1 for "no label", and the sorted classes.
    """
    has_label = labels != "" if labels.dtype.kind == "U" else labels != -1
    classes = np.unique(labels[has_label])
    codes = np.full(len(labels), -1, dtype=np.int64)
    codes[has_label] = np.searchsorted(classes, labels[has_label])
    return codes, classes


def select_all(labels: NDArray[np.generic] | None, n_rows: int) -> Selection:
    """Take every row: the split has a file or a folder of its own."""
    rows = np.arange(n_rows, dtype=np.int64)
    return _selection(rows, None if labels is None else encode_labels(labels))


def select(
    split: str,
    labels: NDArray[np.generic] | None,
    n_rows: int,
    fractions: Sequence[float],
    by: Literal["class", "row"],
    seed: int,
) -> Selection:
    """Choose the rows of one split at random; the three splits share no row.

    Args:
        split: "train", "val" or "test".
        labels: Text or whole numbers of shape `(n_rows,)`, "" or -1 for "no label"; or None.
        n_rows: Number of rows.
        fractions: Shares of train, val and test.
        by: "class" gives every class to one split (rows without a label go to train), "row" deals
            out single rows. Without any label rows are dealt out.
        seed: Fixes the choice.

    Raises:
        ValueError: If there are too few rows or classes for a split, or its share is 0.
    """
    encoded = None if labels is None else encode_labels(labels)
    rng = np.random.default_rng(seed)
    if encoded is None or by == "row" or len(encoded[1]) == 0:
        rows = _part(rng.permutation(n_rows), split, fractions, "rows", "add rows")
        return _selection(rows, encoded)
    codes, classes = encoded
    advice = "split with by='row' or add classes"
    kept = _part(rng.permutation(len(classes)), split, fractions, "classes", advice)
    mine = np.isin(codes, kept) | ((codes == -1) if split == "train" else False)
    own_codes = np.where(codes == -1, -1, np.searchsorted(kept, codes))
    return _selection(np.flatnonzero(mine), (own_codes, classes[kept]))


def _selection(
    rows: NDArray[np.int64], encoded: tuple[NDArray[np.int64], NDArray[np.generic]] | None
) -> Selection:
    """Add the labels of the rows, if there are any at all."""
    if encoded is None or len(encoded[1]) == 0:
        return Selection(rows, None, [])
    return Selection(rows, encoded[0][rows], [str(name) for name in encoded[1]])


def _part(
    shuffled: NDArray[np.int64], split: str, fractions: Sequence[float], what: str, advice: str
) -> NDArray[np.int64]:
    """Cut the split's share out of the shuffled numbers, at least one where the share is not 0."""
    n = len(shuffled)
    if fractions[SPLITS.index(split)] == 0:
        raise ValueError(f"the share of {split!r} in fractions={list(fractions)} is 0: raise it.")
    n_val, n_test = (max(1, round(n * share)) if share > 0 else 0 for share in fractions[1:])
    n_train = n - n_val - n_test
    if n_train < 1:
        raise ValueError(
            f"{n} {what} cannot be split into fractions={list(fractions)} with at least one "
            f"each: {advice}."
        )
    edges = [0, n_train, n_train + n_val, n]
    start = SPLITS.index(split)
    return np.sort(shuffled[edges[start] : edges[start + 1]])
