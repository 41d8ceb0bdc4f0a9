"""Learners: functions from a support set and query inputs to query outputs."""

from .base import Learner
from .centroids import Centroids
from .fine_tuned import FineTuned
from .maml import MAML
from .prototypes import Prototypes
from .readout import Readout
from .sklearn import SklearnClassifier, SklearnClusterer, SklearnDetector, SklearnRegressor
from .supervised import SupervisedMetaLearner
from .unsupervised import UnsupervisedMetaLearner

__all__ = [
    "MAML",
    "Centroids",
    "FineTuned",
    "Learner",
    "Prototypes",
    "Readout",
    "SklearnClassifier",
    "SklearnClusterer",
    "SklearnDetector",
    "SklearnRegressor",
    "SupervisedMetaLearner",
    "UnsupervisedMetaLearner",
]
