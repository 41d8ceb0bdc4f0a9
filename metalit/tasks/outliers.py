"""One-class detection tasks: normal rows to learn from, normal rows and anomalies to judge."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..episodes import Episode, Samples
from .base import TaskDistribution


class GaussianMixture(NamedTuple):
    """A mixture of M Gaussians with equal weights, from which normal rows are drawn.

    Attributes:
        means: Shape `(M, D)`.
        factors: Roots of the covariances, which are `factor @ factor.T`; shape `(M, D, D)`.
    """

    means: Tensor
    factors: Tensor

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n rows, shape `(n, D)`."""
        which = torch.randint(len(self.means), (n,), generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator)
        # a loop, since batched products of small matrices wait for threads on a busy machine
        pairs = zip(self.means, self.factors, strict=True)
        rows = torch.stack([mean + noise @ factor.T for mean, factor in pairs])  # [M, n, D]
        return rows[which, torch.arange(n)]


AnomalyKind = Callable[[GaussianMixture, int, torch.Generator], Tensor]
"""Draws n anomalies, `(n, D)`, to the mixture that the normal rows come from."""


def global_anomalies(mixture: GaussianMixture, n: int, generator: torch.Generator) -> Tensor:
    """Uniform over the box around 500 normal rows, inflated by 1.1 about its centre.

    ADBench inflates about the origin, which depends on where the data happen to lie.
    """
    rows = mixture.draw(500, generator)
    low, high = rows.amin(0), rows.amax(0)
    box = 1.1 * (torch.rand(n, rows.shape[1], generator=generator) - 0.5)  # [n, D]
    return (low + high) / 2 + (high - low) * box


def local_anomalies(mixture: GaussianMixture, n: int, generator: torch.Generator) -> Tensor:
    """The same mixture with each covariance multiplied by 5, as in ADBench."""
    return mixture._replace(factors=mixture.factors * 5**0.5).draw(n, generator)


def cluster_anomalies(mixture: GaussianMixture, n: int, generator: torch.Generator) -> Tensor:
    """One far and small cluster, with a quarter of the covariance of one of the components.

    Its centre lies in a random direction from the mixture's mean, at three times the root mean
    square distance of normal rows. ADBench moves the components themselves away from the origin.
    """
    centre = mixture.means.mean(0)
    scatter = (mixture.means - centre).square().sum(1) + mixture.factors.square().sum((1, 2))
    direction = torch.randn(len(centre), generator=generator)
    far = centre + 3 * scatter.mean().sqrt() * direction / direction.norm()
    which = torch.randint(len(mixture.means), (1,), generator=generator)
    return GaussianMixture(far[None], mixture.factors[which] / 2).draw(n, generator)


def dependency_anomalies(mixture: GaussianMixture, n: int, generator: torch.Generator) -> Tensor:
    """Every feature as in normal rows, but independent of the others.

    Feature j comes from a row of its own, which is exactly the product of the marginals; ADBench
    estimates these with kernels.
    """
    features = mixture.means.shape[1]
    rows = mixture.draw(n * features, generator).view(n, features, features)
    return rows.diagonal(dim1=1, dim2=2).contiguous()


KINDS: tuple[AnomalyKind, ...] = (
    global_anomalies,
    local_anomalies,
    cluster_anomalies,
    dependency_anomalies,
)


class OutlierTasks(TaskDistribution):
    """One-class detection tasks after ADBench's four kinds of anomalies (Han et al., 2022).

    Normal rows (y = 0) come from a random mixture of Gaussians with full covariances: means of
    standard deviation 2, roots of covariances with normal entries of variance 1/D. The support set
    is normal; of the query, in random order, a share are anomalies (y = 1) of one kind, drawn for
    the task. Both sets are standardised by the support's mean and standard deviation. Differs from
    the paper: the mixture is random, not fitted to a data set, and see the kinds.

    Args:
        n_support: Normal rows to learn from.
        n_query: Rows to judge.
        features: Columns of the table.
        contamination: Share of anomalies in the query, 0 to 1, rounded to whole rows.
        components: Smallest and largest number of Gaussians in a mixture.
        kinds: Functions that draw anomalies (see `AnomalyKind`); in YAML their import paths, such
            as `metalit.tasks.outliers.local_anomalies`. None for the four of ADBench.

    Raises:
        ValueError: If a number is out of range, or the contamination leaves the query without an
            anomaly or without a normal row.

    Example:
        >>> episode = OutlierTasks().sample(torch.Generator().manual_seed(0))
        >>> int(episode.support.y.sum()), int(episode.query.y.sum())
        (0, 10)

    References:
        ADBench: Anomaly Detection Benchmark, section 3.3, https://arxiv.org/abs/2206.09426
    """

    def __init__(
        self,
        n_support: int = 100,
        n_query: int = 100,
        features: int = 10,
        contamination: float = 0.1,
        components: tuple[int, int] = (1, 3),
        kinds: Sequence[AnomalyKind] | None = None,
    ) -> None:
        if n_support < 2 or features < 2 or not 1 <= components[0] <= components[1]:
            raise ValueError(
                f"got n_support={n_support}, features={features} and components={components} but "
                "n_support and features must be at least 2 and components 1 or more, the smaller "
                "number first: change the one that does not fit."
            )
        anomalies = round(contamination * n_query) if 0 <= contamination <= 1 else 0
        if not 1 <= anomalies < n_query:
            raise ValueError(
                f"contamination={contamination} of n_query={n_query} rows makes {anomalies} "
                "anomalies but the query needs at least one anomaly and one normal row: change "
                "contamination or n_query."
            )
        if kinds is not None and not kinds:
            raise ValueError(
                "got no kinds but a task needs one kind of anomaly: name one or leave kinds out."
            )
        self.n_support = n_support
        self.n_query = n_query
        self.features = features
        self.contamination = contamination
        self.components = components
        self.kinds = kinds

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw a mixture, a kind of anomaly, and rows of both."""
        mixture = self._mixture(generator)
        kinds = KINDS if self.kinds is None else self.kinds
        kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
        anomalies = round(self.contamination * self.n_query)
        support = mixture.draw(self.n_support, generator)
        normal = mixture.draw(self.n_query - anomalies, generator)
        query = torch.cat([normal, kind(mixture, anomalies, generator)])
        y = (torch.arange(self.n_query) >= len(normal)).long()
        order = torch.randperm(self.n_query, generator=generator)
        mean, std = support.mean(0), support.std(0)
        return Episode(
            Samples((support - mean) / std, torch.zeros(self.n_support, dtype=torch.int64)),
            Samples((query[order] - mean) / std, y[order]),
        )

    def _mixture(self, generator: torch.Generator) -> GaussianMixture:
        """Draw what is normal in this task."""
        low, high = self.components
        m, d = int(torch.randint(low, high + 1, (), generator=generator)), self.features
        means = 2 * torch.randn(m, d, generator=generator)
        return GaussianMixture(means, torch.randn(m, d, d, generator=generator) / d**0.5)
