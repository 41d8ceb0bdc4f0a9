"""Cross-validated answers of base learners inside one task."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.model_selection import KFold, StratifiedKFold
from torch import Tensor
from torch.nn.functional import pad

from ..episodes import Samples
from .base import learn_all

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
    if not regression and not bool((support.y >= 0).any()):
        raise ValueError(
            "the support set has no label (all are -1) but a super learner of classifiers needs "
            "some: label it, or take Consensus of clusterers."
        )
    rows = torch.arange(len(support.y)) if regression else torch.where(support.y.cpu() >= 0)[0]
    y = support.y.detach().cpu()[rows]
    parts = _folds(y, folds, seed)
    fold = torch.zeros(len(rows), dtype=torch.int64)
    found: list[Tensor] = []  # of each fold and learner
    for number, (train, test) in enumerate(parts):
        fold[test] = number
        known, asked = rows[train].to(support.x.device), rows[test].to(support.x.device)
        predictors = learn_all(learners, Samples(support.x[known], support.y[known]))
        found += [predict(support.x[asked]).detach().cpu().double() for predict in predictors]
    # a class that is not in a part has no column there, if it is the last
    least = y.shape[1] if regression else int(y.max()) + 1
    found = found if regression else [wide.softmax(dim=1) for wide in widen(found, least)]
    width = found[0].shape[1] if found else least
    outputs = torch.zeros(len(learners), len(rows) if parts else 0, width, dtype=torch.float64)
    for number, (_, test) in enumerate(parts):
        outputs[:, test] = torch.stack(found[number * len(learners) :][: len(learners)])
    if not parts:
        y, rows, fold = y[:0], rows[:0], fold[:0]
    return HeldOut(outputs, y.double() if regression else y, rows, fold)


def widen(answers: Sequence[Tensor], least: int = 1) -> list[Tensor]:
    """Give all logits `(N, C)` as many columns as the widest; those added have no probability."""
    width = max(least, *(answer.shape[1] for answer in answers)) if answers else least
    return [pad(answer, (0, width - answer.shape[1]), value=-1e4) for answer in answers]


def _folds(y: Tensor, folds: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Places of the training and test rows of each fold; none where that cannot be."""
    if y.is_floating_point():
        if len(y) < 4:
            return []
        splits = list(KFold(min(folds, len(y)), shuffle=True, random_state=seed).split(y))
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
            splits = list(splitter.split(np.zeros(len(y)), y.numpy()))
    return [(torch.from_numpy(train), torch.from_numpy(test)) for train, test in splits]
