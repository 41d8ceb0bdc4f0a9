"""All samples of a map-style data set at once."""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate


def as_tensors(dataset: Dataset[Any]) -> tuple[Tensor, Tensor | None]:
    """Return all inputs and, where there are any, all labels of a map-style data set."""
    if isinstance(dataset, TensorDataset):
        tensors: tuple[Tensor, ...] = dataset.tensors
    else:
        # a map-style data set has a length, though its base class does not say so
        count = len(dataset)  # type: ignore[arg-type]
        items = default_collate([dataset[index] for index in range(count)])
        tensors = (items,) if isinstance(items, Tensor) else tuple(items)
    return tensors[0], tensors[1] if len(tensors) > 1 else None
