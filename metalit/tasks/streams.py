"""Streams of windows whose distribution drifts, jumps and returns, and the episodes they are."""

from collections.abc import Callable
from math import ceil, inf, pi
from typing import NamedTuple

import torch
from torch import Tensor

from ..episodes import Episode, Samples, unlabelled
from .base import TaskDistribution

HIDDEN = 32  # units of the warp that all tables of a domain go through
LENGTH = 20  # windows from one state to the next, on average

Change = Callable[[int, torch.Generator], Tensor]
"""Draws the path of a stream through M states: weights `(windows, M)` whose rows sum to 1."""


class Stream(NamedTuple):
    """A sequence of T windows of n rows each.

    Attributes:
        x: Rows of shape `(T, n, D)`.
        y: Labels of shape `(T, n)`: clusters, or 1 for anomalies and 0 for other rows.
        changes: Numbers of the windows that are the first ones after a jump.
    """

    x: Tensor
    y: Tensor
    changes: list[int]


def no_change(windows: int, generator: torch.Generator) -> Tensor:
    """One state for ever."""
    return torch.ones(windows, 1)


def drift(windows: int, generator: torch.Generator) -> Tensor:
    """Move on a straight line from state to state, 20 windows each."""
    phase = torch.rand((), generator=generator)
    place = phase + torch.arange(windows) / LENGTH
    states = torch.arange(ceil(windows / LENGTH) + 2)
    return torch.relu(1 - (place[:, None] - states).abs())


def jump(windows: int, generator: torch.Generator) -> Tensor:
    """Stay in a state for 15 to 25 windows, then go to a new one at once."""
    state = _visits(windows, generator)
    return torch.eye(int(state[-1]) + 1)[state]


def recurrence(windows: int, generator: torch.Generator) -> Tensor:
    """Jump as in `jump`, through three states in turn."""
    return torch.eye(3)[_visits(windows, generator) % 3]


def oscillation(windows: int, generator: torch.Generator) -> Tensor:
    """Swing between two states and back in 30 windows, fast in the middle and slow at the ends."""
    phase = torch.rand((), generator=generator)
    share = 0.5 - 0.5 * torch.cos(2 * pi * (phase + torch.arange(windows) / 30))
    return torch.stack([share, 1 - share], dim=1)


def _visits(windows: int, generator: torch.Generator) -> Tensor:
    """The number of jumps so far, for each window; shape `(windows,)`."""
    low, high = 3 * LENGTH // 4, 5 * LENGTH // 4
    stays = torch.randint(low, high + 1, (windows // low + 1,), generator=generator)
    return torch.arange(len(stays)).repeat_interleave(stays)[:windows]


class StreamTasks(TaskDistribution):
    """Learn from one window of a stream to do well on the next: the episode a stream is made of.

    All streams of a domain have the same columns, as the sensors of one machine are in all its
    runs: latent factors are carried into the columns by a map that `domain` draws once, linear with
    a warp. Clusters differ in a few relevant factors; nuisance factors vary more and tell nothing.
    A state of a stream has the centres of the clusters, their shares and the means of the nuisance
    factors; `change` is its path through several states. Every column has mean 0 and variance 1
    over all streams of the domain, not within a window, where that would hide a change.

    For clustering, labels are the clusters. With a `contamination`, this share of each window are
    anomalies (1): their nuisance factors are like those of all other rows (0), their relevant
    factors are uniform over a box around all clusters. Both sets of an episode hold them, as the
    windows of a stream do; the support set has no labels.

    Args:
        rows: Rows of a window.
        columns: Columns, at least as many as there are factors.
        clusters: Clusters in each window, 2 or more.
        relevant: Factors in which clusters differ.
        nuisance: Factors in which they do not.
        change: Path of a stream through its states (see `Change`); in YAML an import path, such as
            `metalit.tasks.streams.jump`.
        contamination: Share of anomalies, 0 to 1, rounded to whole rows; None for clustering.
        freedom: Degrees of freedom of the rows within a cluster (Student t); infinite for Gaussian.
        domain: Seed of the map from factors to columns.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> tasks = StreamTasks(rows=50, change=jump)
        >>> stream = tasks.stream(torch.Generator().manual_seed(0), windows=60)
        >>> stream.x.shape, len(stream.changes)
        (torch.Size([60, 50, 16]), 2)
    """

    def __init__(
        self,
        rows: int = 100,
        columns: int = 16,
        clusters: int = 4,
        relevant: int = 3,
        nuisance: int = 4,
        change: Change = drift,
        contamination: float | None = None,
        freedom: float = inf,
        domain: int = 0,
    ) -> None:
        if clusters < 2 or relevant < 1 or nuisance < 0 or columns < relevant + nuisance:
            raise ValueError(
                f"got clusters={clusters}, relevant={relevant}, nuisance={nuisance} and columns="
                f"{columns} but there must be 2 clusters, 1 relevant factor and a column for each "
                "factor at least: raise the one that is too small."
            )
        anomalies = 1
        if contamination is not None:
            anomalies = round(contamination * rows) if 0 <= contamination <= 1 else 0
        if rows < 2 * clusters or not 1 <= anomalies < rows or not freedom > 0:
            raise ValueError(
                f"got rows={rows}, contamination={contamination} and freedom={freedom} but windows "
                f"need {2 * clusters} rows, an anomaly and a normal row if they have any, and a "
                "positive freedom: correct them."
            )
        self.rows = rows
        self.columns = columns
        self.clusters = clusters
        self.relevant = relevant
        self.nuisance = nuisance
        self.change = change
        self.contamination = contamination
        self.freedom = freedom
        self.domain = domain
        self._map = self._draw_map()

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw a stream of two windows: the support set and the query."""
        stream = self.stream(generator, windows=2)
        return Episode(unlabelled(stream.x[0]), Samples(stream.x[1], stream.y[1]))

    def stream(self, generator: torch.Generator, windows: int) -> Stream:
        """Draw a whole stream; what it is depends on the generator alone."""
        path = self.change(windows, generator)  # [T, M]
        states, k, r, n = path.shape[1], self.clusters, self.relevant, self.rows
        centres = 1.5 * torch.randn(states, k, r, generator=generator)
        shares = torch.randn(states, k, generator=generator) / 2
        means = torch.randn(states, self.nuisance, generator=generator) / 2
        here = torch.einsum("tm,mkr->tkr", path, centres)
        which = torch.multinomial((path @ shares).softmax(dim=1), n, True, generator=generator)
        clean = here.gather(1, which[..., None].expand(-1, -1, r))  # [T, n, r]
        inner = clean + 0.5 * self._noise((windows, n, r), generator)
        outer = torch.randn(windows, n, self.nuisance, generator=generator)
        y = which
        if self.contamination is not None:
            odd = torch.rand(windows, n, generator=generator).argsort(dim=1)
            y = (odd < round(self.contamination * n)).long()
            anywhere = 8 * torch.rand(windows, n, r, generator=generator) - 4
            inner = torch.where(y[..., None] == 1, anywhere, inner)
        rest = (windows, n, self.columns)
        x = self._carry(torch.cat([inner, (path @ means)[:, None] + outer], dim=2))
        x = x + 0.1 * torch.randn(rest, generator=generator)
        steps = (path[1:] - path[:-1]).abs().sum(dim=1) / 2
        return Stream(x, y, [int(t) + 1 for t in (steps > 0.5).nonzero()])

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Rows about the centre of their cluster."""
        noise = torch.randn(shape, generator=generator)
        if self.freedom == inf:
            return noise
        # chi-square by its quantile would need scipy; the sum of squares serves whole freedoms
        freedom = max(1, round(self.freedom))
        squares = torch.randn((*shape[:-1], freedom), generator=generator).square()
        return noise / squares.mean(dim=-1, keepdim=True).sqrt()

    def _draw_map(self) -> tuple[Tensor, ...]:
        """Draw what all streams of the domain share, and the scale of their columns."""
        generator = torch.Generator().manual_seed(self.domain)
        factors = self.relevant + self.nuisance
        linear = torch.randn(factors, self.columns, generator=generator) / factors**0.5
        inward = torch.randn(factors, HIDDEN, generator=generator) / factors**0.5
        outward = torch.randn(HIDDEN, self.columns, generator=generator) / HIDDEN**0.5
        # centres have spread 1.5 and rows 0.5, nuisance means 0.5 and rows 1
        spread = torch.tensor([2.5**0.5] * self.relevant + [1.25**0.5] * self.nuisance)
        x = torch.randn(4096, factors, generator=generator) * spread
        x = x @ linear + torch.tanh(x @ inward) @ outward
        return linear, inward, outward, x.mean(dim=0), x.std(dim=0)

    def _carry(self, factors: Tensor) -> Tensor:
        """From factors `(..., F)` to columns `(..., D)`."""
        linear, inward, outward, mean, std = self._map
        return (factors @ linear + torch.tanh(factors @ inward) @ outward - mean) / std
