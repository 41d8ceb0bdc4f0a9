"""Networks: an encoder and a head each, ready for functional gradients."""

from .centroids import Centroids
from .context_mlp import ContextMLP
from .conv4 import Conv4
from .mlp import MLP
from .one_class import Hypersphere, ReconstructionError
from .pair_network import PairNetwork
from .pretrained import PretrainedEncoder

__all__ = [
    "MLP",
    "Centroids",
    "ContextMLP",
    "Conv4",
    "Hypersphere",
    "PairNetwork",
    "PretrainedEncoder",
    "ReconstructionError",
]
