"""Distributions over tasks."""

from .augmentations import AugmentationTasks
from .base import TaskDistribution
from .blobs import BlobTasks
from .clusters import ClusterTasks
from .labels import LabelTasks
from .mixed import Curriculum, MixedTasks
from .outliers import OutlierTasks
from .principal import PrincipalTasks
from .sinusoids import SinusoidTasks
from .streams import StreamTasks
from .table_cuts import TableCuts
from .tables import TableTasks

__all__ = [
    "AugmentationTasks",
    "BlobTasks",
    "ClusterTasks",
    "Curriculum",
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
