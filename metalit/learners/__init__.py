"""Learners: functions from a support set and query inputs to query outputs."""

from .base import Learner
from .fine_tuned import FineTuned
from .maml import MAML
from .pretexts import ArtificialOutliers, Pretext, ShuffledColumns, TwoViews
from .prototypes import Prototypes
from .readout import Readout
from .self_supervised import SelfSupervised
from .sklearn import SklearnClassifier, SklearnClusterer, SklearnDetector, SklearnRegressor
from .supervised import SupervisedMetaLearner
from .unsupervised import UnsupervisedMetaLearner

__all__ = [
    "MAML",
    "ArtificialOutliers",
    "FineTuned",
    "Learner",
    "Pretext",
    "Prototypes",
    "Readout",
    "SelfSupervised",
    "ShuffledColumns",
    "SklearnClassifier",
    "SklearnClusterer",
    "SklearnDetector",
    "SklearnRegressor",
    "SupervisedMetaLearner",
    "TwoViews",
    "UnsupervisedMetaLearner",
]
