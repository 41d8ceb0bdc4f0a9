"""Distributions over tasks."""

from .anomalies import AnomalyTasks
from .augmentations import AugmentationTasks
from .base import TaskDistribution
from .blobs import BlobTasks
from .clusters import ClusterTasks
from .labels import LabelTasks
from .outliers import OutlierTasks
from .sinusoids import SinusoidTasks

__all__ = [
    "AnomalyTasks",
    "AugmentationTasks",
    "BlobTasks",
    "ClusterTasks",
    "LabelTasks",
    "OutlierTasks",
    "SinusoidTasks",
    "TaskDistribution",
]
