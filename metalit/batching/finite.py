"""Whether gradients are finite, at little cost."""

from collections.abc import Sequence

import torch
from torch import Tensor


def have_finite_norm(gradients: Sequence[Tensor], losses: Tensor | None = None) -> bool:
    """Return whether the squared norm of all gradients, and each loss, is a finite number.

    So the squares that an optimizer keeps are finite too; a larger gradient is of no use. The
    answer takes one small reduction a tensor, and waits for the device once.
    """
    parts = []
    if gradients:
        norms = torch._foreach_norm([_values(gradient) for gradient in gradients])
        parts.append(torch.stack(norms).square().sum())
    if losses is not None:
        parts.append(0 * losses.detach().sum())
    return not parts or bool(sum(parts[1:], parts[0]).isfinite())


def _values(gradient: Tensor) -> Tensor:
    if gradient.is_sparse:
        gradient = gradient.coalesce().values()
    # a norm of 65,505 would be infinite in half precision
    return gradient.float() if gradient.dtype.itemsize < 4 else gradient
