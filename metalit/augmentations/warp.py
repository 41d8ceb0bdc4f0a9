"""Augmentations that resample images between the pixels: affine maps and elastic warps."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Augmentation, check_fraction, check_images, uniform


class Affine(Augmentation):
    """Rotates, scales, shears and moves each image about its centre, with bilinear interpolation.

    Args:
        degrees: Largest rotation either way, in degrees.
        translate: Largest move along each axis, as a fraction of the side of the image.
        scale: Smallest and largest scale; above 1 makes the object larger.
        shear: Largest horizontal shear either way, in degrees below 90.
        fill: Value of what comes in from outside the image, 0-1.

    Raises:
        ValueError: If an argument is outside its range.

    Example:
        >>> augment = Affine(degrees=10, translate=0.1, scale=(0.9, 1.1))
        >>> augment(torch.rand(1, 5, 3, 8, 8), [torch.Generator().manual_seed(0)]).shape
        torch.Size([1, 5, 3, 8, 8])
    """

    def __init__(
        self,
        degrees: float = 0.0,
        translate: float = 0.0,
        scale: tuple[float, float] = (1.0, 1.0),
        shear: float = 0.0,
        fill: float = 0.0,
    ) -> None:
        super().__init__()
        if degrees < 0 or translate < 0 or not 0 <= shear < 90:
            raise ValueError(
                f"degrees={degrees}, translate={translate}, shear={shear} but none may be negative "
                "and shear must be below 90: correct them."
            )
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale={scale} but it must be a rising pair above 0: correct it.")
        check_fraction("fill", fill)
        self.degrees = degrees
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.fill = fill

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Apply one random affine map to each image."""
        check_images(x, "Affine")
        images = x.flatten(0, 1)
        drawn = uniform(generators, (x.shape[1], 5), like=x).flatten(0, 1)  # [B·N, 5]
        turn, slant, down, right = (2 * drawn[:, :4] - 1).unbind(1)  # each in [-1, 1)
        size = self.scale[0] + drawn[:, 4] * (self.scale[1] - self.scale[0])
        theta = _inverse_map(
            turn * math.radians(self.degrees), size, torch.tan(slant * math.radians(self.shear))
        )
        height, width = x.shape[3:]
        # from pixels to affine_grid's coordinates, which run from -1 to 1 along either side
        theta = theta * theta.new_tensor([[1.0, height / width], [width / height, 1.0]])
        move = 2 * self.translate * torch.stack([right, down], 1).unsqueeze(2)  # [B·N, 2, 1]
        theta = torch.cat([theta, -theta @ move], 2)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return _resample(images, grid, self.fill).view_as(x)


class Elastic(Augmentation):
    """Bends each image by a smooth random displacement field.

    Control points on a coarse grid move at random, and the pixels between them follow by bicubic
    interpolation. Differs from Simard et al. (2003), who smooth a displacement of every pixel with
    a Gaussian: the coarse grid looks much the same and costs a hundredth.

    Args:
        alpha: Largest move of a control point along each axis, as a fraction of the side.
        points: Control points along each side, at least 2; more bend finer details.
        fill: Value of what comes in from outside the image, 0-1.

    Raises:
        ValueError: If an argument is outside its range.

    References:
        Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis,
        https://doi.org/10.1109/ICDAR.2003.1227801
    """

    def __init__(self, alpha: float = 0.05, points: int = 4, fill: float = 0.0) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"alpha={alpha} but it must not be negative: choose 0 or more.")
        if points < 2:
            raise ValueError(f"points={points} but a grid needs at least 2: choose 2 or more.")
        check_fraction("fill", fill)
        self.alpha = alpha
        self.points = points
        self.fill = fill

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Bend each image by its own displacement field."""
        check_images(x, "Elastic")
        images = x.flatten(0, 1)
        shape = (x.shape[1], 2, self.points, self.points)
        # a side is 2 long in grid_sample's coordinates
        moves = 2 * self.alpha * (2 * uniform(generators, shape, like=x).flatten(0, 1) - 1)
        field = F.interpolate(moves, size=x.shape[3:], mode="bicubic", align_corners=True)
        still = torch.eye(2, 3, device=x.device, dtype=x.dtype).expand(len(images), 2, 3)
        grid = F.affine_grid(still, list(images.shape), align_corners=False)
        return _resample(images, grid + field.permute(0, 2, 3, 1), self.fill).view_as(x)


def _inverse_map(angle: Tensor, size: Tensor, slope: Tensor) -> Tensor:
    """Inverse of rotation · scale · shear, (M,) each → (M, 2, 2): from output to input."""
    cos, sin = angle.cos() / size, angle.sin() / size
    return torch.stack([cos + slope * sin, sin - slope * cos, -sin, cos], 1).view(-1, 2, 2)


def _resample(images: Tensor, grid: Tensor, fill: float) -> Tensor:
    """Read images (M, C, H, W) at a grid (M, H, W, 2); outside they have the value `fill`."""
    moved = F.grid_sample(images - fill, grid, mode="bilinear", align_corners=False) + fill
    return moved.clamp(0, 1)  # rounding alone can leave the range
