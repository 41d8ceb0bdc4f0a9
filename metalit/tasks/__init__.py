"""Distributions over tasks."""

from .augmentations import AugmentationTasks
from .base import TaskDistribution
from .blobs import BlobTasks
from .clusters import ClusterTasks
from .joint import JointTasks
from .labels import LabelTasks
from .outliers import OutlierTasks
from .sinusoids import SinusoidTasks

__all__ = [
    "AugmentationTasks",
    "BlobTasks",
    "ClusterTasks",
    "JointTasks",
    "LabelTasks",
    "OutlierTasks",
    "SinusoidTasks",
    "TaskDistribution",
]
