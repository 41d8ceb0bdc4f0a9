"""Regression tasks: sine waves, MAML's own toy."""

import math

import torch

from ..episodes import Episode, Samples
from .base import TaskDistribution


class SinusoidTasks(TaskDistribution):
    """Regression of a sine wave of random amplitude and phase (Finn et al., 2017).

    A task is y = amplitude * sin(x - phase), without noise; inputs are uniform over the domain.
    With the defaults a network that does not adapt can do no better than a mean squared error of
    about 3, that of the average wave.

    Args:
        shot: Support points.
        query_shot: Query points, drawn anew.
        amplitude: Smallest and largest amplitude.
        phase: Smallest and largest phase, in radians.
        domain: Smallest and largest input.

    Raises:
        ValueError: If a number of points is smaller than 1 or a range is upside down.

    Example:
        >>> episode = SinusoidTasks(shot=5).sample(torch.Generator().manual_seed(0))
        >>> episode.support.x.shape, episode.support.y.shape
        (torch.Size([5, 1]), torch.Size([5, 1]))

    References:
        Model-Agnostic Meta-Learning, section 5.1, https://arxiv.org/abs/1703.03400
    """

    def __init__(
        self,
        shot: int = 10,
        query_shot: int = 10,
        amplitude: tuple[float, float] = (0.1, 5.0),
        phase: tuple[float, float] = (0.0, math.pi),
        domain: tuple[float, float] = (-5.0, 5.0),
    ) -> None:
        if shot < 1 or query_shot < 1:
            raise ValueError(
                f"got shot={shot} and query_shot={query_shot} but both must be at least 1: "
                "raise the one that is too small."
            )
        for name, (low, high) in (("amplitude", amplitude), ("phase", phase), ("domain", domain)):
            if not -math.inf < low <= high < math.inf:
                raise ValueError(
                    f"got {name}=({low}, {high}) but two finite numbers are needed, the smaller "
                    "one first: correct them, or swap them."
                )
        self.shot = shot
        self.query_shot = query_shot
        self.amplitude = amplitude
        self.phase = phase
        self.domain = domain

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw one wave; x and y of both sets are float32 of shape `(N, 1)`."""
        amplitude = _uniform(self.amplitude, (1, 1), generator)
        phase = _uniform(self.phase, (1, 1), generator)
        x = _uniform(self.domain, (self.shot + self.query_shot, 1), generator)
        y = amplitude * torch.sin(x - phase)
        support, query = slice(self.shot), slice(self.shot, None)
        return Episode(Samples(x[support], y[support]), Samples(x[query], y[query]))


def _uniform(
    bounds: tuple[float, float], shape: tuple[int, int], generator: torch.Generator
) -> torch.Tensor:
    """Uniform numbers between the bounds."""
    low, high = bounds
    return low + (high - low) * torch.rand(shape, generator=generator)
