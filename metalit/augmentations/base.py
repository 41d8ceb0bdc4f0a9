"""The contract of an augmentation and the one way to draw its random numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Augmentation(nn.Module, ABC):
    """Changes images at random, a whole meta-batch at once, on the device the images are on."""

    @abstractmethod
    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Augment a meta-batch.

        Args:
            x: Images of shape `(B, N, C, H, W)`, float, values 0 to 1.
            generators: B CPU generators, one an episode: what an image becomes depends only on
                its episode's generator, not on the other episodes, the device or the world size.

        Returns:
            Augmented images of the same shape, dtype and device.
        """


def uniform(generators: Sequence[torch.Generator], shape: Sequence[int], like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) of shape `(B, *shape)`, drawn per episode, moved to `like`."""
    drawn = torch.stack([torch.rand(*shape, generator=generator) for generator in generators])
    return drawn.to(device=like.device, dtype=like.dtype)


def normal(generators: Sequence[torch.Generator], shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal numbers of shape `(B, *shape)`, drawn per episode, moved to `like`."""
    drawn = torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
    return drawn.to(device=like.device, dtype=like.dtype)


def check_fraction(name: str, value: float) -> None:
    """Raise unless a probability or a brightness lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value} but it must be in [0, 1]: choose a value in that range.")


def check_images(x: Tensor, name: str) -> None:
    """Raise unless x is a meta-batch of images."""
    if x.ndim != 5:
        raise ValueError(
            f"{name} got inputs of shape {tuple(x.shape)} but needs images of shape "
            "(B, N, C, H, W): choose an augmentation that fits this data, such as Noise."
        )
