"""Estimators in scikit-learn's way: fit on one table, predict on another."""

from .pseudo_label import PseudoLabelClusterer
from .super_clusterer import SuperLearnerClusterer
from .super_detector import SuperLearnerDetector
from .super_learner import SuperLearnerClassifier, SuperLearnerRegressor

__all__ = [
    "PseudoLabelClusterer",
    "SuperLearnerClassifier",
    "SuperLearnerClusterer",
    "SuperLearnerDetector",
    "SuperLearnerRegressor",
]
