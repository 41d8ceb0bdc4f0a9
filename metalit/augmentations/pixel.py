"""Augmentations that change pixel values: noise, dropped pixels and erased rectangles."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Augmentation, check_fraction, check_images, normal, uniform


class Noise(Augmentation):
    """Adds Gaussian noise to every value and clamps the sum to 0-1.

    Args:
        std: Standard deviation, in pixel values 0-1, or in the units of a table.

    Raises:
        ValueError: If `std` is negative.
    """

    def __init__(self, std: float = 0.1) -> None:
        super().__init__()
        if std < 0:
            raise ValueError(f"std={std} but it must not be negative: choose 0 or more.")
        self.std = std

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Add noise to inputs of shape `(B, N, *features)`; images stay within 0 to 1."""
        noisy = x + self.std * normal(generators, x.shape[1:], like=x)
        return noisy.clamp(0, 1) if x.ndim == 5 else noisy


class PixelDropout(Augmentation):
    """Sets single pixels to one value, in all channels: UMTRA's "randomly zeroing pixels".

    Args:
        probability: Probability of each pixel to be dropped.
        fill: Value of a dropped pixel, 0-1. The paper's 0 is the background in images with
            light strokes on black.

    Raises:
        ValueError: If an argument is outside 0-1.

    References:
        Unsupervised Meta-Learning for Few-Shot Image Classification,
        https://arxiv.org/abs/1811.11819
    """

    def __init__(self, probability: float = 0.1, fill: float = 0.0) -> None:
        super().__init__()
        check_fraction("probability", probability)
        check_fraction("fill", fill)
        self.probability = probability
        self.fill = fill

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Drop pixels of images of shape `(B, N, C, H, W)`, values 0 to 1."""
        check_images(x, "PixelDropout")
        drawn = uniform(generators, (x.shape[1], 1, *x.shape[3:]), like=x)
        return x.masked_fill(drawn < self.probability, self.fill)


class Erase(Augmentation):
    """Covers a random rectangle of an image (random erasing, Zhong et al., 2020).

    Differs from the paper: a rectangle longer than the image is cut to its side rather than drawn
    again, and it is filled with one value, which the authors found slightly worse than noise.

    Args:
        probability: Probability of each image to be changed.
        area: Smallest and largest share of the image's area, in `[0, 1]`.
        aspect: Smallest and largest ratio of height to width, drawn uniformly in the logarithm.
        fill: Value of the rectangle, 0-1.

    Raises:
        ValueError: If an argument is outside its range.

    References:
        Random Erasing Data Augmentation, https://arxiv.org/abs/1708.04896
    """

    def __init__(
        self,
        probability: float = 0.5,
        area: tuple[float, float] = (0.02, 0.33),
        aspect: tuple[float, float] = (0.3, 3.3),
        fill: float = 0.0,
    ) -> None:
        super().__init__()
        check_fraction("probability", probability)
        check_fraction("fill", fill)
        if not 0 <= area[0] <= area[1] <= 1:
            raise ValueError(f"area={area} but it must be a rising pair in [0, 1]: correct it.")
        if not 0 < aspect[0] <= aspect[1]:
            raise ValueError(f"aspect={aspect} but it must be a rising pair above 0: correct it.")
        self.probability = probability
        self.area = area
        self.aspect = aspect
        self.fill = fill

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Erase in images of shape `(B, N, C, H, W)`, values 0 to 1."""
        check_images(x, "Erase")
        height, width = x.shape[3:]
        chance, share, ratio, down, right = uniform(generators, (5, x.shape[1]), like=x).unbind(1)
        area = height * width * (self.area[0] + share * (self.area[1] - self.area[0]))
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        aspect = torch.exp(low + ratio * (high - low))  # [B, N]
        rows = _inside((area * aspect).sqrt().round().clamp(max=height), down, height)
        columns = _inside((area / aspect).sqrt().round().clamp(max=width), right, width)
        chosen = (chance < self.probability)[..., None, None]
        erased = rows[..., :, None] & columns[..., None, :] & chosen  # [B, N, H, W]
        return x.masked_fill(erased.unsqueeze(2), self.fill)


def _inside(length: Tensor, place: Tensor, size: int) -> Tensor:
    """Return which of `size` positions lie in an interval: (B, N), (B, N) → (B, N, size)."""
    # the last of size - length + 1 starts could be reached by rounding up: cut it
    start = torch.minimum((place * (size - length + 1)).floor(), size - length)
    position = torch.arange(size, device=length.device, dtype=length.dtype)
    return (position >= start[..., None]) & (position < (start + length)[..., None])
