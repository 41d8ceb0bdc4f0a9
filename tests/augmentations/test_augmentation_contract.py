import inspect

import pytest
import torch
from torch import Tensor, nn

from metalit.augmentations import (
    Affine,
    Augmentation,
    Compose,
    Elastic,
    Erase,
    Flip,
    FromModule,
    Noise,
    PixelDropout,
    Shift,
)

AUGMENTATIONS = [
    Affine(degrees=30, translate=0.2, scale=(0.7, 1.3), shear=20, fill=0.3),
    Shift(2),
    Flip(0.5, 0.5),
    Elastic(0.2, fill=0.3),
    Noise(0.3),
    PixelDropout(0.3),
    Erase(0.8),
    Compose([Affine(20), Noise(0.1), Flip()]),
    FromModule(nn.Dropout2d(0.3)),
]

conforms = pytest.mark.parametrize(
    "augmentation", AUGMENTATIONS, ids=lambda augmentation: type(augmentation).__name__
)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(3, 4, 2, 9, 12, generator=generator).to(dtype)


@conforms
def test_an_episode_depends_on_its_own_generator_alone(augmentation: Augmentation) -> None:
    together = augmentation(images(), generators(3))
    alone = augmentation(images()[2:], generators(3)[2:])
    torch.testing.assert_close(together[2], alone[0], atol=1e-6, rtol=0)
    assert torch.equal(augmentation(images(), generators(3)), together)


@conforms
def test_episodes_with_other_generators_are_augmented_otherwise(augmentation: Augmentation) -> None:
    same = images()[:1].expand(3, -1, -1, -1, -1)
    augmented = augmentation(same, generators(3))
    assert not torch.allclose(augmented[0], augmented[1])
    assert not torch.allclose(augmented[0, 0] - same[0, 0], augmented[0, 1] - same[0, 1])


@conforms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(augmentation: Augmentation, dtype: torch.dtype) -> None:
    augmented = augmentation(images(dtype), generators(3))
    assert augmented.shape == images().shape
    assert augmented.dtype == dtype


@pytest.mark.parametrize(
    "augmentation", AUGMENTATIONS[:-1], ids=lambda augmentation: type(augmentation).__name__
)
def test_values_stay_between_zero_and_one(augmentation: Augmentation) -> None:
    for x in (images(), images().round(), torch.zeros(3, 4, 1, 28, 28)):
        augmented = augmentation(x, generators(3))
        assert augmented.min() >= 0
        assert augmented.max() <= 1


@conforms
def test_arguments_are_kept_under_their_names(augmentation: Augmentation) -> None:
    for name in inspect.signature(type(augmentation)).parameters:
        assert name in {**vars(augmentation), **augmentation._modules}


@conforms
def test_the_images_given_are_not_changed(augmentation: Augmentation) -> None:
    x = images()
    augmentation(x, generators(3))
    assert torch.equal(x, images())
