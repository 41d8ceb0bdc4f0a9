"""Augmentations: random changes of a whole meta-batch of images, on the device."""

from .base import Augmentation
from .compose import Compose, FromModule
from .geometric import Affine, Elastic, Flip, Shift
from .pixel import Erase, Noise, PixelDropout

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
