"""Cross-validated answers of base learners inside one task."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.model_selection import KFold, StratifiedKFold
from torch import Tensor
from torch.nn.functional import pad

from ..episodes import Samples

if TYPE_CHECKING:
    from ..learners.base import Learner


@dataclass(frozen=True)
class HeldOut:
    """Answers for rows by learners that have not seen them.

    Attributes:
        outputs: Probabilities of shape `(K, N, way)`, or predictions `(K, N, d)`, float64, on the
            CPU; N is 0 where the task is too small to be cut.
        y: Labels of shape `(N,)`, or targets `(N, d)`.
        rows: Numbers of the rows in the support set, `(N,)`.
        fold: In which fold each was held out, `(N,)`.
    """

    outputs: Tensor
    y: Tensor
    rows: Tensor
    fold: Tensor


def held_out(learners: "Mapping[str, Learner]", support: Samples, folds: int, seed: int) -> HeldOut:
    """Cross-validate K learners on the labelled rows of a support set.

    Args:
        learners: The learners.
        support: y of shape `(S,)`, rows labelled -1 are left out, or targets of shape `(S, d)`.
        folds: Number of folds; a class with fewer members than folds lowers it, to 2 at least.
        seed: Seed of the folds.
    """
    regression = support.y.is_floating_point()
    rows = torch.arange(len(support.y)) if regression else torch.where(support.y.cpu() >= 0)[0]
    y = support.y.detach().cpu()[rows]
    width = y.shape[1] if regression else int(y.max()) + 1
    parts = _folds(y, folds, seed)
    outputs = torch.zeros(len(learners), len(rows) if parts else 0, width, dtype=torch.float64)
    fold = torch.zeros(len(rows), dtype=torch.int64)
    for number, (train, test) in enumerate(parts):
        fold[test] = number
        known, asked = rows[train].to(support.x.device), rows[test].to(support.x.device)
        part = Samples(support.x[known], support.y[known])
        for k, learner in enumerate(learners.values()):
            answer = learner.learn(part)(support.x[asked]).detach().cpu().double()
            if not regression:  # a class that is not in this part has no column, if it is the last
                answer = pad(answer, (0, width - answer.shape[1]), value=-1e4).softmax(dim=1)
            outputs[k, test] = answer
    if not parts:
        y, rows, fold = y[:0], rows[:0], fold[:0]
    return HeldOut(outputs, y.double() if regression else y, rows, fold)


def _folds(y: Tensor, folds: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Places of the training and test rows of each fold; none where that cannot be."""
    if y.is_floating_point():
        if len(y) < 4:
            return []
        splits = KFold(min(folds, len(y)), shuffle=True, random_state=seed).split(y)
    else:
        counts = torch.bincount(y)
        counts = counts[counts > 0]
        if int(counts.max()) < 2:  # one-shot: no class could be learned from and asked for
            return []
        several = int(counts[counts >= 2].min())
        splitter = StratifiedKFold(max(2, min(folds, several)), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # a class with one member is held out once, and nobody can know it then
            warnings.filterwarnings(
                "ignore", message="The least populated class", category=UserWarning
            )
            splits = iter(list(splitter.split(np.zeros(len(y)), y.numpy())))
    return [(torch.from_numpy(train), torch.from_numpy(test)) for train, test in splits]
