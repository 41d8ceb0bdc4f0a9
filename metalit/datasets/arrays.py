"""The user's own arrays and tables."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from ._splits import SPLITS, check_parts, check_split, select, select_all
from ._tables import as_features, as_labels, read_csv, read_npz, read_parquet

_SUFFIXES = (".npz", ".npy", ".csv", ".parquet")


class Arrays(TensorDataset):
    """Images or rows of a table from the user's own file, with or without labels.

    `path` is one file, of which each split is a random part, or a folder of the files train, val
    and test with one suffix (train.csv, val.csv, test.csv). An .npz holds the examples under x, X
    or images, an .npy the examples alone, a .csv (with a line of column names) or .parquet one
    number a column. x is uint8 of shape `(N, C, H, W)` for images of whole numbers and float32
    otherwise: `(N, C, H, W)` for images of fractions, `(N, D)` for tables, as they are, without
    scaling. y is int64 of shape `(N,)`, -1 for "no label", and left out where no row of the split
    has one. Class numbers count the classes of the split.

    Attributes:
        classes: Class names in the order of y; empty without labels.
        rows: Row numbers of the split within its file, in the order of x.

    Args:
        split: "train", "val" or "test".
        path: The file or folder; environment variables in it are filled in ($DATA/mine.csv).
        label: Column or .npz key of the labels: text or whole numbers; an empty cell or -1 is a row
            without a label. If None, the column `label` or the key `y` where there is one.
        fractions: Shares of train, val and test; not used for a folder.
        by: "class" gives every class to one split, so that test classes are new, as few-shot
            evaluation wants it (rows without a label go to train); "row" deals out single rows, as
            clustering and outlier tasks want it. Without labels single rows are dealt out.
        seed: Fixes the random split.

    Raises:
        FileNotFoundError: If the file, or the folder's file of the split, does not exist.
        ValueError: If an argument is unknown, the file cannot be read, a feature is text, NaN or
            infinite, labels are fractions, or there are too few rows or classes.

    Example:
        >>> Arrays("train", "flowers.csv", label="species", by="row").classes  # doctest: +SKIP
        ['setosa', 'versicolor', 'virginica']
    """

    def __init__(
        self,
        split: str,
        path: str,
        label: str | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        by: Literal["class", "row"] = "class",
        seed: int = 0,
    ) -> None:
        check_split(split)
        check_parts(fractions, by)
        self.split = split
        self.path = path
        self.label = label
        self.fractions = fractions
        self.by = by
        self.seed = seed
        source = Path(os.path.expandvars(path)).expanduser()
        has_folder = source.is_dir()
        file = _file_of(source, split) if has_folder else source
        features, labels = read_table(str(file), label)
        if labels is not None and labels.dtype.kind == "f":
            raise ValueError(
                f"the labels of {file} are fractions, but classes are text or whole numbers: name "
                "another column in label or round them."
            )
        if has_folder:
            chosen = select_all(labels, len(features))
        else:
            chosen = select(split, labels, len(features), fractions, by, seed)
        self.classes = chosen.classes
        self.rows = chosen.rows.tolist()
        x = torch.from_numpy(features[chosen.rows])
        super().__init__(*([x] if chosen.y is None else [x, torch.from_numpy(chosen.y)]))


def read_table(
    path: str, label: str | None = None, targets: bool = False
) -> tuple[NDArray[np.generic], NDArray[np.generic] | None]:
    """Read examples, and their labels where there are some, from one file.

    Args:
        path: An .npz, .npy, .csv or .parquet file; see `Arrays`. Images may be `(N, H, W)`,
            `(N, H, W, C)` or `(N, C, H, W)`: the last axis is the channels if it is at most 4 long
            and axis 1 is longer than that. A first column without a name, the row index that
            pandas writes, is left out.
        label: Column or key of the labels; if None, the column `label` or the key `y` if any.
        targets: Whether the labels are numbers to be predicted: a missing one stays NaN.

    Returns:
        Examples: uint8 images of shape `(N, C, H, W)`, or float32 of shape `(N, C, H, W)` or
        `(N, D)`. Labels of shape `(N,)`: text with "" for a missing one, int64 with -1, or float64
        with NaN; None if the file has no labels.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be read, or holds text, NaN or infinite values as features.
    """
    file = Path(path)
    if file.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{path} has an unknown suffix: use {', '.join(_SUFFIXES)}.")
    if not file.is_file():
        raise FileNotFoundError(f"{path} does not exist: correct the path.")
    read = {".csv": read_csv, ".parquet": read_parquet}.get(file.suffix.lower(), read_npz)
    x, y, columns = read(file, label)
    if len(x) == 0 or (y is not None and len(y) != len(x)):
        counted = "no labels" if y is None else f"{len(y)} labels"
        raise ValueError(
            f"{path} holds {len(x)} examples and {counted}: give one label an example."
        )
    return as_features(x, columns, path), None if y is None else as_labels(y, path, targets)


def _file_of(folder: Path, split: str) -> Path:
    """The one file of a split in a folder."""
    found = [folder / f"{split}{s}" for s in _SUFFIXES if (folder / f"{split}{s}").is_file()]
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no {split}{_SUFFIXES[0]}, .npy, .csv or .parquet: put "
            f"{', '.join(SPLITS)} there or give the path of one file."
        )
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds {' and '.join(file.name for file in found)}: keep one of them."
        )
    return found[0]
