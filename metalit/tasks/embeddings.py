"""Embeddings of whole data sets."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from ..scikit import seeded_clone
from .classes import to_float

_BATCH = 256  # samples a call of an encoder


def embed(
    x: Tensor, embedding: BaseEstimator | nn.Module | None, random_state: int = 0
) -> NDArray[np.float32]:
    """Turn every sample into a vector.

    Args:
        x: Samples of shape `(N, *features)`, uint8 or float.
        embedding: None for the flattened values, a scikit-learn transformer that is cloned and
            fitted on them, or a module from `(N, *features)` to `(N, D)`.
        random_state: Seed of the transformer, and of the order in which a module sees the samples.

    Returns:
        Vectors of shape `(N, D)`, float32.

    Raises:
        ValueError: If the result has another shape, or NaN or infinite values.
    """
    if isinstance(embedding, nn.Module):
        embedded = _encode(x, embedding, random_state)
    else:
        embedded = to_float(x).flatten(1).numpy()
        if embedding is not None:
            transformer = seeded_clone(embedding, random_state)
            embedded = np.asarray(transformer.fit_transform(embedded), dtype=np.float32)
    name = type(embedding).__name__
    if embedded.ndim != 2 or len(embedded) != len(x):
        raise ValueError(
            f"the embedding {name} returns shape {embedded.shape} for {len(x)} samples but "
            f"({len(x)}, D) is needed: flatten its output."
        )
    if not np.isfinite(embedded).all():
        raise ValueError(
            f"the embedding {name} returns NaN or infinite values but they must be finite: scale "
            "the data or choose another embedding."
        )
    return embedded


@torch.no_grad()
def _encode(x: Tensor, encoder: nn.Module, random_state: int) -> NDArray[np.float32]:
    """Apply an encoder in batches of nearly equal size."""
    encoder.eval()
    first = next(encoder.parameters(), None)
    device = x.device if first is None else first.device
    # data sets are often sorted by class, and batch norm that uses the statistics of the batch
    # would then remove what tells the classes apart: mix them
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(random_state))
    batches = order.tensor_split(-(-len(x) // _BATCH))
    outputs = [encoder(to_float(x[batch]).to(device)).float().cpu() for batch in batches]
    embedded = torch.empty(len(x), *outputs[0].shape[1:])
    embedded[order] = torch.cat(outputs)
    return embedded.numpy()
