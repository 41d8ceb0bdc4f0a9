"""Support sets to learn from that are made of unlabelled ones."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..episodes import Samples, unlabelled


class Pretext(nn.Module, ABC):
    """Makes a labelled support set of an unlabelled one, for `SelfSupervised`.

    It is a function of the support set alone: what is random comes from a generator with a seed of
    its own, the same for every task, so that a learner gives the same answer twice.
    """

    @abstractmethod
    def forward(self, support: Samples) -> Samples:
        """Return the support set that is learned from; its labels are never looked at.

        Args:
            support: x of shape `(S, *features)`; y is ignored.
        """


class ArtificialOutliers(Pretext):
    """Adds uniform rows, labelled 1, to the rows of a table, labelled 0 (Steinwart et al., 2005).

    They are uniform over the box of the rows, which is widened about its centre. Telling them from
    the rows is estimating where the density of the rows is high.

    Args:
        share: Outliers, as a share of the rows; more cover more of the box.
        widening: Factor of the widths of the box.
        seed: Seed of the outliers.

    Raises:
        ValueError: If a share or a factor is not positive.

    Example:
        >>> support = Samples(torch.randn(6, 2), torch.full((6,), -1))
        >>> ArtificialOutliers(share=0.5)(support).y
        tensor([0, 0, 0, 0, 0, 0, 1, 1, 1])

    References:
        A Classification Framework for Anomaly Detection,
        https://www.jmlr.org/papers/v6/steinwart05a.html
    """

    def __init__(self, share: float = 1.0, widening: float = 1.2, seed: int = 0) -> None:
        super().__init__()
        if not (share > 0 and widening > 0):
            raise ValueError(
                f"got share={share} and widening={widening} but both must be positive: raise them."
            )
        self.share = share
        self.widening = widening
        self.seed = seed

    def forward(self, support: Samples) -> Samples:
        """Return the rows and after them the outliers, at least one."""
        x = support.x
        low, high = x.amin(dim=0), x.amax(dim=0)
        count = max(1, round(self.share * len(x)))
        places = torch.rand(count, *x.shape[1:], generator=_generator(self.seed)).to(x) - 0.5
        outliers = (low + high) / 2 + self.widening * (high - low) * places
        return _labelled(x, outliers)


class ShuffledColumns(Pretext):
    """Adds rows without dependencies, labelled 1, to the rows of a table, labelled 0.

    Each column of them is that of the table in an order of its own (Breiman and Cutler's reference
    for unsupervised forests; Shi and Horvath, 2006): every value is normal, but not together with
    the others.

    Args:
        seed: Seed of the orders.

    Example:
        >>> support = Samples(torch.arange(4.0)[:, None].expand(4, 2), torch.full((4,), -1))
        >>> shuffled = ShuffledColumns()(support).x[4:]
        >>> shuffled.sort(dim=0).values[:, 1]
        tensor([0., 1., 2., 3.])

    References:
        Unsupervised Learning With Random Forest Predictors,
        https://doi.org/10.1198/106186006X94072
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, support: Samples) -> Samples:
        """Return the rows and after them as many shuffled ones."""
        flat = support.x.flatten(1)
        order = torch.rand(flat.shape, generator=_generator(self.seed)).argsort(dim=0)
        shuffled = flat.gather(0, order.to(flat.device))
        return _labelled(support.x, shuffled.view_as(support.x))


class TwoViews(Pretext):
    """Gives the rows and, after them, the same rows with noise, all without labels.

    For losses that compare two views of a row, such as `MutualInformation(consistency=1.0)`.

    Args:
        noise: Standard deviation of the noise, in standard deviations of each feature.
        seed: Seed of the noise.

    Raises:
        ValueError: If the noise is not positive.

    Example:
        >>> TwoViews(0.1)(Samples(torch.randn(6, 2), torch.arange(6))).x.shape
        torch.Size([12, 2])
    """

    def __init__(self, noise: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        if not noise > 0:
            raise ValueError(f"noise={noise} must be positive, such as 0.1 standard deviations.")
        self.noise = noise
        self.seed = seed

    def forward(self, support: Samples) -> Samples:
        """Return both views, one after the other."""
        x = support.x
        noise = torch.randn(x.shape, generator=_generator(self.seed)).to(x)
        views = torch.cat([x, x + self.noise * x.std(dim=0, correction=0) * noise])
        return unlabelled(views)


def _generator(seed: int) -> torch.Generator:
    """On the CPU, so that the numbers are the same on every device."""
    return torch.Generator().manual_seed(seed)


def _labelled(rows: Tensor, others: Tensor) -> Samples:
    sizes = torch.tensor([len(rows), len(others)])
    y = torch.arange(2).repeat_interleave(sizes)
    return Samples(torch.cat([rows, others]), y.to(rows.device))
