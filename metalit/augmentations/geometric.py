"""Augmentations that move whole pixels: shifts and flips."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Augmentation, check_fraction, check_images, uniform


class Shift(Augmentation):
    """Moves each image by whole pixels, without interpolation.

    Args:
        pixels: Largest shift along each axis, either way.
        fill: Value of what comes in from outside the image, 0-1.

    Raises:
        ValueError: If `pixels` is negative or `fill` is outside 0-1.
    """

    def __init__(self, pixels: int = 2, fill: float = 0.0) -> None:
        super().__init__()
        if pixels < 0:
            raise ValueError(f"pixels={pixels} but it must not be negative: choose 0 or more.")
        check_fraction("fill", fill)
        self.pixels = pixels
        self.fill = fill

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Move each image by its own number of rows and columns."""
        check_images(x, "Shift")
        images = x.flatten(0, 1)
        drawn = uniform(generators, (x.shape[1], 2), like=x).flatten(0, 1)
        shift = ((2 * self.pixels + 1) * drawn).long().clamp(max=2 * self.pixels) - self.pixels
        rows, rows_inside = _sources(shift[:, 0], x.shape[3])
        columns, columns_inside = _sources(shift[:, 1], x.shape[4])
        moved = images.gather(2, rows[:, None, :, None].expand(images.shape))
        moved = moved.gather(3, columns[:, None, None, :].expand(images.shape))
        inside = rows_inside[:, None, :, None] & columns_inside[:, None, None, :]
        return moved.masked_fill(~inside, self.fill).view_as(x)


class Flip(Augmentation):
    """Mirrors images left to right or top to bottom.

    Args:
        horizontal: Probability of each image to be mirrored left to right.
        vertical: Probability of each image to be mirrored top to bottom.

    Raises:
        ValueError: If a probability is outside 0-1.
    """

    def __init__(self, horizontal: float = 0.5, vertical: float = 0.0) -> None:
        super().__init__()
        check_fraction("horizontal", horizontal)
        check_fraction("vertical", vertical)
        self.horizontal = horizontal
        self.vertical = vertical

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Mirror a random part of the images."""
        check_images(x, "Flip")
        drawn = uniform(generators, (2, x.shape[1], 1, 1, 1), like=x)
        x = torch.where(drawn[:, 0] < self.horizontal, x.flip(-1), x)
        return torch.where(drawn[:, 1] < self.vertical, x.flip(-2), x)


def _sources(shift: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Which position each of `size` ones comes from, and whether that is inside the image."""
    source = torch.arange(size, device=shift.device) - shift[:, None]
    return source.clamp(0, size - 1), (source >= 0) & (source < size)
