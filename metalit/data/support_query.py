"""The user's own episode, from files, for `predict`."""

import csv
import math
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ..datasets import encode_labels, read_images, read_table
from ..episodes import Episode, Samples
from ..tasks.classes import to_float


class SupportQuery(LightningDataModule):
    """One episode of the user's own: a support set to learn from and a query set to answer for.

    Each is a table (.csv, .parquet, .npz, .npy) or a folder of images. The support set has labels
    where the learner needs them: a column of the table, or one subfolder a class.

    Args:
        support: File or folder of the examples to learn from.
        query: File or folder of the examples to answer for; its labels are not looked at.
        label: Column or array of the labels; None means `label` in a table and `y` in an .npz.
        regression: Whether the labels are targets rather than classes; None decides it by whether
            some of them have a fraction.
        image_size: Height and width to which images of a folder are brought, in pixels.
        channels: 1 for grey images, 3 for colour.
        invert: Swap dark and bright, for a network that was trained on the other.
        shape: Shape of one example, where a table holds images or the like as flat rows.
        standardize: Bring every column to mean 0 and standard deviation 1 of the support set, which
            is what a network meta-trained on standardised tasks such as `OutlierTasks` expects.

    Raises:
        FileNotFoundError: If a file or folder does not exist.
        ValueError: If they cannot be read or do not fit each other.

    Attributes:
        classes: Class names in the order of the outputs, or None without labels.
        names: One name a query sample: its row number or its path in the folder.
        targets: Whether the labels are targets rather than classes.
    """

    def __init__(
        self,
        support: str,
        query: str,
        label: str | None = None,
        regression: bool | None = None,
        image_size: int = 28,
        channels: int = 1,
        invert: bool = False,
        shape: list[int] | None = None,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.support = support
        self.query = query
        self.label = label
        self.regression = regression
        self.image_size = image_size
        self.channels = channels
        self.invert = invert
        self.shape = shape
        self.standardize = standardize
        self.classes: list[str] | None = None
        self.names: list[str] = []
        self.targets = False

    def setup(self, stage: str) -> None:
        """Read both sets."""
        x, labels, _ = self._read(self.support, self.label)
        in_query = self.label is not None and self.label in _columns(self.query)
        query, _, self.names = self._read(self.query, self.label if in_query else None)
        if x.shape[1:] != query.shape[1:]:
            raise ValueError(
                f"support samples have shape {tuple(x.shape[1:])} but query samples "
                f"{tuple(query.shape[1:])}: give both the same columns or image size."
            )
        if self.standardize:
            mean, deviation = x.mean(dim=0), x.std(dim=0)
            deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
            x, query = (x - mean) / deviation, (query - mean) / deviation
        names = {self.label or "label"}
        columns = [[c for c in _columns(f) if c not in names] for f in (self.support, self.query)]
        if _is_table(self.support) and _is_table(self.query) and columns[0] != columns[1]:
            raise ValueError(
                f"{self.support} has the columns {columns[0]} but {self.query} {columns[1]}: give "
                "both the same columns in the same order."
            )
        y = self._labels(labels, len(x))
        ignored = torch.full((len(query),), -1)
        self._episode = Episode(Samples(x[None], y[None]), Samples(query[None], ignored[None]))

    def predict_dataloader(self) -> DataLoader[Episode]:
        """Return a loader of the one episode."""
        episodes: Any = [self._episode]  # a list is a data set
        return DataLoader(episodes, batch_size=1, collate_fn=itemgetter(0))

    def _labels(self, labels: NDArray[Any] | None, size: int) -> Tensor:
        if labels is None:
            return torch.full((size,), -1)
        kind = labels.dtype.kind
        self.targets = kind == "f" if self.regression is None else self.regression
        if self.targets:
            if kind == "U" or not np.isfinite(labels).all():
                raise ValueError(
                    f"the targets of {self.support} hold text or nothing in some row but each must "
                    "be a number: fill them or drop the rows."
                )
            return torch.from_numpy(labels.astype(np.float32))[:, None]
        if kind == "f":
            labels = np.where(np.isnan(labels), "", labels.astype(str))
        y, known = encode_labels(labels)
        self.classes = [str(name) for name in known]
        return torch.from_numpy(y)

    def _read(
        self, source: str, label: str | None
    ) -> tuple[Tensor, NDArray[Any] | None, list[str]]:
        if Path(source).is_dir():
            images, folders, names = read_images(
                source, self.image_size, self.channels, self.invert
            )
            labels = None if folders is None else np.array(folders)
            return to_float(torch.from_numpy(images)), labels, names
        table, labels = read_table(source, label, targets=self.regression is True)
        x = to_float(torch.from_numpy(table))
        if self.shape is not None:
            if x[0].numel() != math.prod(self.shape):
                raise ValueError(
                    f"{source} has {x[0].numel()} numbers a row but shape={self.shape} needs "
                    f"{math.prod(self.shape)}: correct shape."
                )
            x = x.reshape(len(x), *self.shape)
        return x, labels, [str(row) for row in range(len(x))]


def _is_table(source: str) -> bool:
    return Path(source).suffix.lower() in (".csv", ".parquet")


def _columns(source: str) -> list[str]:
    """Return the names of the columns of a table, or of the arrays of an .npz."""
    file = Path(source)
    if not file.is_file():
        return []
    if file.suffix.lower() == ".csv":
        with file.open(newline="", encoding="utf-8-sig") as stream:
            names = next(csv.reader(stream), [])
        return [name for name in names if name]
    if file.suffix.lower() == ".parquet":
        from pyarrow.parquet import read_schema

        return [name for name in read_schema(file).names if not name.startswith("__index_level")]
    if file.suffix.lower() == ".npz":
        with np.load(file) as arrays:
            return list(arrays)
    return []
