"""Augmentations: random changes of a whole meta-batch of images, on the device."""

from .base import Augmentation
from .compose import Compose, FromModule
from .geometric import Flip, Shift
from .pixel import Erase, Noise, PixelDropout
from .warp import Affine, Elastic

__all__ = [
    "Affine",
    "Augmentation",
    "Compose",
    "Elastic",
    "Erase",
    "Flip",
    "FromModule",
    "Noise",
    "PixelDropout",
    "Shift",
]
