"""Classical anomaly scores of one table, all at once: what the amortised detector weighs."""

from .base import AnomalyScores
from .calibration import Calibration
from .shift import ShiftScores
from .trimming import central_rows

__all__ = ["AnomalyScores", "Calibration", "ShiftScores", "central_rows"]
