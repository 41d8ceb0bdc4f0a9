import math

import numpy as np
import pytest
import torch

from metalit.augmentations import Erase, Noise, PixelDropout
from metalit.augmentations.base import uniform


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def test_noise_equals_adding_each_episodes_own_normal_numbers() -> None:
    x = torch.rand(2, 3, 1, 5, 5, generator=generators(1)[0])
    noisy = Noise(std=0.2)(x, generators(2))
    for b, generator in enumerate(generators(2)):
        expected = x[b] + 0.2 * torch.randn(3, 1, 5, 5, generator=generator)
        assert torch.equal(noisy[b], expected.clamp(0, 1))


def test_noise_works_on_tables() -> None:
    assert Noise(0.1)(torch.zeros(2, 3, 7), generators(2)).shape == (2, 3, 7)


def test_pixel_dropout_drops_a_pixel_in_all_channels_with_its_probability() -> None:
    x = torch.ones(2, 10, 3, 30, 30)
    dropped = PixelDropout(0.2, fill=0.5)(x, generators(2)) == 0.5
    assert torch.equal(dropped.any(2), dropped.all(2))
    assert abs(dropped.float().mean().item() - 0.2) < 0.01


def test_erase_covers_the_drawn_rectangles() -> None:
    x = torch.ones(3, 20, 2, 16, 24)
    erased = Erase(probability=0.6, area=(0.1, 0.4), aspect=(0.5, 2.0), fill=0.25)(x, generators(3))
    drawn = uniform(generators(3), (5, 20), like=x).numpy()
    for b, n in np.ndindex(3, 20):
        chance, share, ratio, down, right = drawn[b, :, n]
        area = 16 * 24 * (0.1 + 0.3 * share)
        aspect = math.exp(math.log(0.5) + ratio * (math.log(2.0) - math.log(0.5)))
        height = min(16, round(math.sqrt(area * aspect)))
        width = min(24, round(math.sqrt(area / aspect)))
        top, left = int(down * (16 - height + 1)), int(right * (24 - width + 1))
        expected = torch.ones(2, 16, 24)
        if chance < 0.6:
            expected[:, top : top + height, left : left + width] = 0.25
        assert torch.equal(erased[b, n], expected)


def test_erase_cuts_a_rectangle_that_is_longer_than_the_image() -> None:
    x = torch.ones(1, 10, 1, 8, 8)
    erased = Erase(1.0, area=(0.5, 0.5), aspect=(8.0, 8.0))(x, generators(1))
    assert (erased[0, :, 0].sum(1) == 0).sum(1).eq(2).all()  # 2 whole columns of 16 x 2


@pytest.mark.parametrize("augmentation", [Noise(0.0), PixelDropout(0.0), Erase(0.0)])
def test_zero_strength_is_the_identity(augmentation: torch.nn.Module) -> None:
    x = torch.rand(2, 3, 1, 6, 6, generator=generators(1)[0])
    assert torch.equal(augmentation(x, generators(2)), x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Noise(-0.1), "std=-0.1"),
        (lambda: PixelDropout(1.5), "probability=1.5"),
        (lambda: Erase(area=(0.5, 0.1)), r"area=\(0.5, 0.1\)"),
        (lambda: Erase(aspect=(0.0, 1.0)), r"aspect=\(0.0, 1.0\)"),
        (lambda: Erase(fill=-1), "fill=-1"),
    ],
)
def test_arguments_outside_their_range_are_refused(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
