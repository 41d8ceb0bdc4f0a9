"""Losses that torch.nn lacks, in its (input, target) form, for one episode."""

from .adjusted_rand import SoftAdjustedRand
from .binary_cross_entropy import BinaryCrossEntropy, OneClassCrossEntropy
from .matched_cross_entropy import MatchedCrossEntropy
from .pairwise_logistic import PairwiseLogistic
from .soft_k_means import SoftKMeans

__all__ = [
    "BinaryCrossEntropy",
    "MatchedCrossEntropy",
    "OneClassCrossEntropy",
    "PairwiseLogistic",
    "SoftAdjustedRand",
    "SoftKMeans",
]
