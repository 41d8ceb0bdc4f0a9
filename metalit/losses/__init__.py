"""Losses that torch.nn lacks, in its (input, target) form, for one episode."""

from .adjusted_rand import SoftAdjustedRand
from .binary_cross_entropy import BinaryCrossEntropy, OneClassCrossEntropy
from .dec import DEC
from .deep_k_means import DeepKMeans
from .deep_svdd import DeepSVDD
from .density_ratio import DensityRatio
from .matched_cross_entropy import MatchedCrossEntropy
from .mutual_information import MutualInformation
from .outlier_exposure import OutlierExposure
from .pairwise_cross_entropy import PairwiseCrossEntropy
from .pairwise_logistic import PairwiseLogistic
from .similarity import SimilarityCrossEntropy
from .soft_k_means import SoftKMeans

__all__ = [
    "DEC",
    "BinaryCrossEntropy",
    "DeepKMeans",
    "DeepSVDD",
    "DensityRatio",
    "MatchedCrossEntropy",
    "MutualInformation",
    "OneClassCrossEntropy",
    "OutlierExposure",
    "PairwiseCrossEntropy",
    "PairwiseLogistic",
    "SimilarityCrossEntropy",
    "SoftAdjustedRand",
    "SoftKMeans",
]
