"""Data sets: the splits "train", "val" and "test" of labelled or unlabelled examples, in memory."""

from ._splits import encode_labels
from .arrays import Arrays, read_table
from .body import BodyMeasurements
from .digits import Digits
from .images import ImageFolder, read_images
from .omniglot import Omniglot

__all__ = [
    "Arrays",
    "BodyMeasurements",
    "Digits",
    "ImageFolder",
    "Omniglot",
    "encode_labels",
    "read_images",
    "read_table",
]
