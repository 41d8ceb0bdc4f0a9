"""Estimators in scikit-learn's way: fit on one table, predict on another."""

from ._weights import load_similarity
from .meta_clusterer import MetaClusterer
from .meta_detector import MetaDetector
from .pseudo_label import PseudoLabelClusterer
from .super_clusterer import SuperLearnerClusterer
from .super_detector import SuperLearnerDetector
from .super_learner import SuperLearnerClassifier, SuperLearnerRegressor

__all__ = [
    "MetaClusterer",
    "MetaDetector",
    "PseudoLabelClusterer",
    "SuperLearnerClassifier",
    "SuperLearnerClusterer",
    "SuperLearnerDetector",
    "SuperLearnerRegressor",
    "load_similarity",
]
