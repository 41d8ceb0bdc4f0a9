"""Callbacks: reports, figures and predictions; nothing of these happens inside a step."""

from .adaptation_report import AdaptationReport
from .clustering_report import ClusteringReport
from .last_checkpoint import LastCheckpoint
from .prediction_writer import PredictionWriter
from .pretraining import ClusterPretraining
from .run_summary import RunSummary
from .segmentation_writer import SegmentationWriter
from .strategy_report import StrategyReport

__all__ = [
    "AdaptationReport",
    "ClusterPretraining",
    "ClusteringReport",
    "LastCheckpoint",
    "PredictionWriter",
    "RunSummary",
    "SegmentationWriter",
    "StrategyReport",
]
