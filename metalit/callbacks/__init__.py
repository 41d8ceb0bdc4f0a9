"""Callbacks: reports, figures and predictions; nothing of these happens inside a step."""

from .adaptation_report import AdaptationReport
from .prediction_writer import PredictionWriter
from .pretraining import ClusterPretraining
from .references import ClustererReference, DetectorReference, Reference, RegressorReference
from .run_summary import RunSummary

__all__ = [
    "AdaptationReport",
    "ClusterPretraining",
    "ClustererReference",
    "DetectorReference",
    "PredictionWriter",
    "Reference",
    "RegressorReference",
    "RunSummary",
]
