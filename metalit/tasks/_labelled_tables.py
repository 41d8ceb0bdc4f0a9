"""Labelled data sets that tasks are cut from."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.utils.data import Dataset

from ..datasets.fingerprint import fingerprint
from ..datasets.tensors import as_tensors

Table = TypeVar("Table")
Factories = Sequence[Callable[[str], Dataset[Any]]]
"""From the name of a split to a labelled data set."""


class LabelledTables(Generic[Table]):
    """Tables of several data sets, or of the one that `fit` was given, each prepared once.

    Args:
        owner: Name of the distribution, for the error.
        datasets: Factories of the data sets; None for that of `fit`.
        split: "train", "val" or "test", for `datasets`.
        prepare: Makes a table of inputs `(N, *features)` and labels `(N,)`.
    """

    def __init__(
        self,
        owner: str,
        datasets: Factories | None,
        split: str,
        prepare: Callable[[Tensor, Tensor | None], Table],
    ) -> None:
        self.owner = owner
        self.datasets = datasets
        self.split = split
        self.prepare = prepare
        self._tables: list[Table] = []
        self._fingerprints: list[str] = []

    def fit(self, x: Tensor, y: Tensor | None) -> None:
        """Take inputs and labels, where there are no data sets."""
        if self.datasets is None:
            self._tables = [self.prepare(x, y)]

    def read(self) -> list[Table]:
        """Return the tables; data sets are read once a process, and need no `fit`."""
        if not self._tables:
            if self.datasets is None:
                raise ValueError(
                    f"{self.owner} has no data: give `datasets`, or a `dataset` to the data module."
                )
            made = [as_tensors(make(self.split)) for make in self.datasets]
            self._fingerprints = [fingerprint(*tensors) for tensors in made]
            self._tables = [self.prepare(*tensors) for tensors in made]
        return self._tables

    def fingerprints(self) -> list[str]:
        """Return the fingerprints of the data sets, which are read now."""
        if self.datasets is not None:
            self.read()
        return self._fingerprints
