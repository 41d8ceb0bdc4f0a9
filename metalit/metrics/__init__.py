"""Metrics: one value an episode, and the mean over episodes with its confidence interval."""

from .accuracy import Accuracy, MatchedAccuracy
from .base import EpisodeMetric
from .clustering import AdjustedRand, NormalizedMutualInfo
from .detection import AUROC, PairAUROC
from .mean import MeanConfidence, MeanWithInterval
from .regression import MeanSquaredError
from .reliability import Reliability, reliability

__all__ = [
    "AUROC",
    "Accuracy",
    "AdjustedRand",
    "EpisodeMetric",
    "MatchedAccuracy",
    "MeanConfidence",
    "MeanSquaredError",
    "MeanWithInterval",
    "NormalizedMutualInfo",
    "PairAUROC",
    "Reliability",
    "reliability",
]
