"""Distributions over tasks."""

from .augmentations import AugmentationTasks
from .base import TaskDistribution
from .blobs import BlobTasks
from .labels import LabelTasks
from .outliers import OutlierTasks
from .sinusoids import SinusoidTasks

__all__ = [
    "AugmentationTasks",
    "BlobTasks",
    "LabelTasks",
    "OutlierTasks",
    "SinusoidTasks",
    "TaskDistribution",
]
