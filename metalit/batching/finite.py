"""Whether gradients are finite, at little cost."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

LARGEST = torch.finfo(torch.float32).max


def have_finite_norm(gradients: Sequence[Tensor], losses: Tensor | None = None) -> bool:
    """Return whether the squared norm of each gradient, and each loss, is a finite number.

    So the squares that an optimizer keeps are finite too; a larger gradient is of no use. The
    answer takes one small reduction a tensor, and waits for the device once.
    """
    values = [_values(gradient) for gradient in gradients]
    found = list(torch._foreach_norm(values)) if values else []
    if losses is not None:
        found.append(losses.detach().sum())
    numbers = torch.stack(found).tolist() if found else []
    if losses is not None and not isfinite(numbers.pop()):
        return bool(losses.isfinite().all()) and _are_small(numbers, values)
    return _are_small(numbers, values)


def _are_small(norms: Sequence[float], values: Sequence[Tensor]) -> bool:
    # false for NaN, too
    return all(
        norm * norm <= (LARGEST if value.dtype != torch.float64 else torch.finfo(value.dtype).max)
        for norm, value in zip(norms, values, strict=True)
    )


def _values(gradient: Tensor) -> Tensor:
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    # a norm of 65,505 would be infinite in half precision
    return gradient.float() if gradient.dtype.itemsize < 4 else gradient
