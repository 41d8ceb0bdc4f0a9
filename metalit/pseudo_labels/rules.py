"""Rules of the user's own about which rows belong together, and labels that keep them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from ..episodes import Samples

Pairs = Sequence[tuple[int, int]]


class Constraints(NamedTuple):
    """What a rule says about S rows.

    Attributes:
        must_link: Pairs of rows of one cluster.
        cannot_link: Pairs of rows of two clusters.
        labels: Known clusters of shape `(S,)`, int64, -1 where nothing is known; None for none.
    """

    must_link: Pairs = ()
    cannot_link: Pairs = ()
    labels: Tensor | None = None


class Rule(ABC):
    """What a user knows about the clusters of a support set."""

    @abstractmethod
    def constrain(self, support: Samples) -> Constraints:
        """Say what the rule means for a support set."""


class MustLink(Rule):
    """Rows that belong to one cluster.

    Args:
        pairs: Pairs of numbers of support rows.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def constrain(self, support: Samples) -> Constraints:
        """Return the pairs."""
        return Constraints(must_link=self.pairs)


class CannotLink(Rule):
    """Rows that belong to different clusters.

    Args:
        pairs: Pairs of numbers of support rows.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def constrain(self, support: Samples) -> Constraints:
        """Return the pairs."""
        return Constraints(cannot_link=self.pairs)


class LabellingFunction(Rule):
    """A function that knows the cluster of some inputs.

    Args:
        function: From inputs `(S, *features)` to clusters `(S,)`, int64, -1 where it does not know;
            rows to which it gives one number come into one cluster.
    """

    def __init__(self, function: nn.Module | Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def constrain(self, support: Samples) -> Constraints:
        """Ask the function."""
        return Constraints(labels=torch.as_tensor(self.function(support.x)).cpu())


class KnownLabels(Rule):
    """The labels of the support set, where it has some: all that are not -1."""

    def constrain(self, support: Samples) -> Constraints:
        """Return the labels."""
        return Constraints(labels=support.y.cpu())


class Groups(NamedTuple):
    """What several rules say together: groups of rows that share a label.

    Attributes:
        of_row: Group of each row, int64 of shape `(S,)`.
        labels: Known label of each of G groups, int64 of shape `(G,)`, -1 where nothing is known.
        rivals: For each group, the groups that must have another label.
    """

    of_row: Tensor
    labels: Tensor
    rivals: list[set[int]]


def gather_rules(rules: Sequence[Rule], support: Samples, clusters: int) -> Groups:
    """Bring rules together.

    Raises:
        ValueError: If they contradict each other, or speak of a row or cluster that is not there.
    """
    size = len(support.x)
    said = [rule.constrain(support) for rule in rules]
    must = _pairs([pair for s in said for pair in s.must_link], size)
    cannot = _pairs([pair for s in said for pair in s.cannot_link], size)
    links = coo_array((torch.ones(len(must)), must.T), shape=(size, size))
    count, components = connected_components(links, directed=False)
    of_row = torch.from_numpy(components).long()
    labels = torch.full((count,), -1)
    for known in (s.labels for s in said if s.labels is not None):
        if known.shape != (size,) or known.is_floating_point() or int(known.max()) >= clusters:
            raise ValueError(
                f"known labels have shape {tuple(known.shape)} and values up to {known.max()} but "
                f"({size},) integers below n_clusters={clusters} are needed: correct the rule."
            )
        for row in (known >= 0).nonzero()[:, 0].tolist():
            group, label = int(of_row[row]), int(known[row])
            if int(labels[group]) not in (-1, label):
                raise ValueError(
                    f"row {row} has label {label} but rows that it must be linked with have label "
                    f"{labels[group]}: drop one of the rules."
                )
            labels[group] = label
    rivals: list[set[int]] = [set() for _ in range(count)]
    for i, j in cannot.tolist():
        first, second = int(of_row[i]), int(of_row[j])
        if first == second or -1 != labels[first] == labels[second]:
            raise ValueError(
                f"rows {i} and {j} cannot be linked but other rules give them one label: drop one "
                "of the rules."
            )
        rivals[first].add(second)
        rivals[second].add(first)
    return Groups(of_row, labels, rivals)


def assign(logits: Tensor, groups: Groups) -> Tensor:
    """Give each row its best label that the rules allow.

    A group takes the label of the largest sum of logits. Groups with rivals are served one after
    another, those first that have the fewest labels left, and among these the most certain.

    Args:
        logits: Log-probabilities of shape `(S, K)`.
        groups: What the rules say of the S rows.

    Returns:
        Labels of shape `(S,)`.

    Raises:
        ValueError: If a group has no label left.
    """
    sums = logits.new_zeros(len(groups.labels), logits.shape[1]).index_add(0, groups.of_row, logits)
    labels = torch.where(groups.labels >= 0, groups.labels, sums.argmax(dim=1))
    certainty = sums.sort(dim=1, descending=True).values
    margins = (certainty[:, 0] - certainty[:, min(1, logits.shape[1] - 1)]).tolist()
    known = groups.labels.tolist()
    taken: dict[int, set[int]] = {
        group: {known[rival] for rival in rivals if known[rival] >= 0}
        for group, rivals in enumerate(groups.rivals)
        if rivals and known[group] < 0
    }
    while taken:
        group = max(taken, key=lambda g: (len(taken[g]), margins[g]))
        used = list(taken.pop(group))
        if len(used) == logits.shape[1]:
            row = int((groups.of_row == group).nonzero()[0])
            raise ValueError(
                f"row {row} cannot be linked with rows of all {len(used)} clusters: drop a "
                "cannot-link pair or raise n_clusters."
            )
        allowed = sums[group].clone()
        allowed[used] = -torch.inf
        labels[group] = allowed.argmax()
        for rival in groups.rivals[group]:
            if rival in taken:
                taken[rival].add(int(labels[group]))
    return labels[groups.of_row]


def _pairs(pairs: Pairs, size: int) -> Tensor:
    """Pairs of rows as int64 `(N, 2)`."""
    for pair in pairs:
        if np.shape(pair) != (2,) or not np.issubdtype(np.asarray(pair).dtype, np.integer):
            raise ValueError(
                f"a rule has {pair!r} but pairs of two row numbers are needed: correct it."
            )
    table = torch.tensor([list(pair) for pair in pairs], dtype=torch.int64).reshape(-1, 2)
    wrong = ((table < 0) | (table >= size)).any(1) | (table[:, 0] == table[:, 1])
    if bool(wrong.any()):
        raise ValueError(
            f"a rule links rows {tuple(table[wrong][0].tolist())} but two different rows in "
            f"[0, {size}) are needed: correct the pair."
        )
    return table
