"""Learners: functions from a support set and query inputs to query outputs."""

from .acr import ACR
from .amortized_clusterer import AmortizedClusterer
from .amortized_detector import AmortizedDetector
from .base import Learner
from .embedded_k_means import EmbeddedKMeans
from .fine_tuned import FineTuned
from .maml import MAML
from .pairwise_similarity import PairwiseSimilarity
from .pretexts import ArtificialOutliers, Pretext, ShuffledColumns, TwoViews
from .prototypes import Prototypes
from .readout import Readout
from .self_supervised import SelfSupervised
from .sklearn import SklearnClassifier, SklearnClusterer, SklearnDetector, SklearnRegressor
from .supervised import SupervisedMetaLearner
from .unsupervised import UnsupervisedMetaLearner

__all__ = [
    "ACR",
    "MAML",
    "AmortizedClusterer",
    "AmortizedDetector",
    "ArtificialOutliers",
    "EmbeddedKMeans",
    "FineTuned",
    "Learner",
    "PairwiseSimilarity",
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
