"""Estimators in scikit-learn's way: fit on one table, predict on another."""

from .super_learner import SuperLearnerClassifier, SuperLearnerRegressor

__all__ = ["SuperLearnerClassifier", "SuperLearnerRegressor"]
