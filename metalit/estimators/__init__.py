"""Estimators in scikit-learn's way: fit on one table, predict on another."""

from .pseudo_label import PseudoLabelClusterer
from .super_learner import SuperLearnerClassifier, SuperLearnerRegressor

__all__ = ["PseudoLabelClusterer", "SuperLearnerClassifier", "SuperLearnerRegressor"]
