import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from metalit.augmentations import Affine, Augmentation, Elastic, Flip, Shift
from metalit.augmentations.base import uniform


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + number) for number in range(count)]


def images(*shape: int, margin: int = 0) -> torch.Tensor:
    x = torch.rand(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    inside = torch.zeros(shape[-2:], dtype=torch.bool)
    inside[margin : shape[-2] - margin, margin : shape[-1] - margin] = True
    return x * inside


def draws(shape: tuple[int, ...], like: torch.Tensor) -> np.ndarray:
    """What an augmentation draws first from `generators(B)`."""
    return uniform(generators(len(like)), shape, like=like).numpy()


def scipy_affine(image, degrees, scale, shear, down, right, fill):
    """Forward map in (x, y) pixels about the centre, inverted by numpy, read by scipy."""
    angle, slope = math.radians(degrees), math.tan(math.radians(shear))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = scale * turn @ np.array([[1.0, slope], [0.0, 1.0]])
    inverse = np.linalg.inv(forward)[::-1, ::-1]  # (row, column) order
    centre = (np.array(image.shape) - 1) / 2
    offset = centre - inverse @ (centre + np.array([down, right]))
    return ndimage.affine_transform(
        image, inverse, offset, order=1, mode="grid-constant", cval=fill
    )


@pytest.mark.parametrize("fill", [0.0, 0.7])
def test_affine_equals_scipy_on_each_image(fill: float) -> None:
    x = images(2, 3, 2, 9, 14)
    moved = Affine(degrees=40, translate=0.2, scale=(0.6, 1.5), shear=25, fill=fill)(
        x, generators(2)
    )
    drawn = draws((3, 5), x)
    for b, n, c in np.ndindex(2, 3, 2):
        turn, slant, down, right = 2 * drawn[b, n, :4] - 1
        expected = scipy_affine(
            x[b, n, c].numpy(),
            turn * 40,
            0.6 + 0.9 * drawn[b, n, 4],
            slant * 25,
            down * 0.2 * 9,
            right * 0.2 * 14,
            fill,
        )
        np.testing.assert_allclose(moved[b, n, c].numpy(), expected, atol=1e-9)


def test_affine_scale_above_one_makes_the_object_larger() -> None:
    x = images(1, 1, 1, 12, 12, margin=4)
    larger = Affine(scale=(1.5, 1.5))(x, generators(1))
    assert (larger > 0).sum() > 1.5 * (x > 0).sum()


def test_shift_equals_roll_where_a_margin_hides_the_edges() -> None:
    x = images(3, 4, 2, 10, 13, margin=3)
    moved = Shift(pixels=3)(x, generators(3))
    drawn = draws((4, 2), x)
    seen = set()
    for b, n in np.ndindex(3, 4):
        shift = tuple(math.floor(7 * u) - 3 for u in drawn[b, n])
        seen.add(shift)
        assert torch.equal(moved[b, n], x[b, n].roll(shift, (1, 2)))
    assert len(seen) > 6


def test_shift_fills_what_comes_in_from_outside() -> None:
    x = torch.ones(1, 40, 1, 6, 6)
    moved = Shift(pixels=2, fill=0.25)(x, generators(1))
    assert set(moved.unique().tolist()) == {0.25, 1.0}
    kept = (moved == 1).flatten(1).sum(1).reshape(-1)
    assert kept.sum() < x.sum()


def test_shift_larger_than_the_image_leaves_only_the_fill() -> None:
    x = torch.ones(1, 30, 1, 2, 2)
    moved = Shift(pixels=50)(x, generators(1))
    assert (moved.flatten(2).amax(2) == 0).any()


def test_shift_reaches_every_shift_equally_often() -> None:
    x = torch.zeros(1, 3000, 1, 5, 5)
    x[..., 2, 2] = 1
    counts = Shift(pixels=1)(x, generators(1)).sum((0, 1, 2))
    assert counts.sum() == 3000
    assert (counts[1:4, 1:4] > 0.8 * 3000 / 9).all()


def test_flip_mirrors_the_drawn_images_only() -> None:
    x = images(2, 50, 1, 3, 4)
    flipped = Flip(horizontal=0.3, vertical=0.6)(x, generators(2))
    drawn = draws((2, 50, 1, 1, 1), x)[..., 0, 0, 0]
    for b, n in np.ndindex(2, 50):
        expected = x[b, n].numpy()
        expected = expected[..., ::-1] if drawn[b, 0, n] < 0.3 else expected
        expected = expected[:, ::-1] if drawn[b, 1, n] < 0.6 else expected
        np.testing.assert_array_equal(flipped[b, n].numpy(), expected)


def test_flip_with_probability_one_mirrors_all() -> None:
    x = images(1, 4, 2, 5, 5)
    assert torch.equal(Flip(horizontal=1.0)(x, generators(1)), x.flip(-1))
    assert torch.equal(Flip(horizontal=0.0, vertical=1.0)(x, generators(1)), x.flip(-2))


def test_elastic_equals_scipy_map_coordinates_on_each_image() -> None:
    x = images(2, 2, 2, 11, 8)
    bent = Elastic(alpha=0.2, points=3, fill=0.4)(x, generators(2))
    drawn = draws((2, 2, 3, 3), x)
    rows, columns = np.meshgrid(np.arange(11.0), np.arange(8.0), indexing="ij")
    for b, n, c in np.ndindex(2, 2, 2):
        moves = torch.from_numpy(0.2 * (2 * drawn[b, n] - 1))[None]
        field = F.interpolate(moves, (11, 8), mode="bicubic", align_corners=True)[0].numpy()
        expected = ndimage.map_coordinates(
            x[b, n, c].numpy(),
            [rows + 11 * field[1], columns + 8 * field[0]],
            order=1,
            mode="grid-constant",
            cval=0.4,
        )
        np.testing.assert_allclose(bent[b, n, c].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(
    "augmentation",
    [Affine(), Shift(0), Flip(0.0, 0.0), Elastic(0.0)],
    ids=lambda augmentation: type(augmentation).__name__,
)
def test_zero_strength_is_the_identity(augmentation: Augmentation) -> None:
    x = images(2, 3, 1, 7, 10)
    torch.testing.assert_close(augmentation(x, generators(2)), x, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Affine(degrees=-1), "degrees=-1"),
        (lambda: Affine(shear=90), "below 90"),
        (lambda: Affine(scale=(1.2, 0.8)), r"scale=\(1.2, 0.8\)"),
        (lambda: Affine(fill=2), "fill=2"),
        (lambda: Shift(-1), "pixels=-1"),
        (lambda: Flip(1.5), "horizontal=1.5"),
        (lambda: Elastic(-0.1), "alpha=-0.1"),
        (lambda: Elastic(points=1), "points=1"),
    ],
)
def test_arguments_outside_their_range_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
