"""Distributions over tasks."""

from .anomalies import AnomalyTasks
from .augmentations import AugmentationTasks
from .base import TaskDistribution
from .blobs import BlobTasks
from .class_out import ClassOutTasks
from .clusters import ClusterTasks
from .joint import JointTasks
from .labels import LabelTasks
from .mixed import Curriculum, MixedTasks
from .outliers import OutlierTasks
from .principal import PrincipalTasks
from .sinusoids import SinusoidTasks
from .streams import StreamTasks
from .table_cuts import TableCuts
from .tables import TableTasks

__all__ = [
    "AnomalyTasks",
    "AugmentationTasks",
    "BlobTasks",
    "ClassOutTasks",
    "ClusterTasks",
    "Curriculum",
    "JointTasks",
    "LabelTasks",
    "MixedTasks",
    "OutlierTasks",
    "PrincipalTasks",
    "SinusoidTasks",
    "StreamTasks",
    "TableCuts",
    "TableTasks",
    "TaskDistribution",
]
