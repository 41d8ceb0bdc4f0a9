"""Descriptors of a task: numbers of order 1 that say what kind of support set this is."""

import math

import torch
from torch import Tensor

from .episodes import Samples

DESCRIPTORS = (
    "log_rows",
    "log_columns",
    "log_rows_per_column",
    "skewness",
    "kurtosis",
    "correlation",
    "first_component",
    "binary_columns",
    "log_classes",
    "class_entropy",
    "smallest_class",
    "labelled",
)
"""What `describe_task` returns, in order."""

_LONGEST = 512  # columns that the correlations look at: more would take longer than the learners


@torch.no_grad()
def describe_task(support: Samples) -> Tensor:
    """Describe a support set by its size, its columns and the balance of its classes.

    The simple, statistical and information-theoretic meta-features of the literature (Rivolli et
    al., 2022), brought to order 1. None of them depends on the order of rows, columns or classes.

    Args:
        support: x of shape `(S, *features)`; y integers of shape `(S,)` with -1 for "no label", or
            float targets of shape `(S, d)`. What is said of classes is 0 without any.

    Returns:
        Descriptors of shape `(12,)`, in the order of `DESCRIPTORS`, with the dtype of x.

    References:
        Meta-features for meta-learning, https://doi.org/10.1016/j.knosys.2021.108101
    """
    table = support.x.flatten(1)
    rows, columns = table.shape
    z = table[:, :_LONGEST].double()
    z = torch.where(z.isfinite(), z, torch.nan)
    z = torch.where(z.isnan(), z.nanmean(dim=0).nan_to_num(0), z)  # as if not told
    deviation = z.std(dim=0, correction=0)
    z = (z - z.mean(dim=0)) / torch.where(deviation > 0, deviation, 1.0)
    correlations = z.T @ z / rows
    wide = len(correlations)
    between = (correlations.abs().sum() - correlations.diagonal().sum()) / max(wide * (wide - 1), 1)
    spectrum = torch.linalg.eigvalsh(correlations)
    values = [
        math.log10(rows) / 2 - 1,
        math.log10(columns) / 2,
        math.log10(rows / columns) / 2,
        float(z.pow(3).mean(dim=0).abs().mean().clamp(max=10)) / 2,
        float((z.pow(4).mean(dim=0) - 3).clamp(-3, 30).mean()) / 10,
        float(between),
        float(spectrum[-1] / spectrum.sum().clamp_min(1e-12)),
        float((table.sort(dim=0).values.diff(dim=0) > 0).sum(dim=0).eq(1).double().mean()),
        *_describe_labels(support.y),
    ]
    dtype = table.dtype if table.is_floating_point() else torch.float32
    return torch.tensor(values, dtype=dtype, device=table.device)


def _describe_labels(y: Tensor) -> list[float]:
    if y.is_floating_point() or not bool((y >= 0).any()):
        return [0.0, 0.0, 0.0, float(y.is_floating_point())]
    counts = torch.bincount(y[y >= 0]).double()
    shares = counts[counts > 0] / counts.sum()
    way = len(shares)
    entropy = float(-(shares * shares.log()).sum()) / math.log(way) if way > 1 else 0.0
    return [math.log(way) / 2, entropy, float(shares.min()) * way, float(counts.sum()) / len(y)]
