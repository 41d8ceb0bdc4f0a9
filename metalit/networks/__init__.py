"""Networks: an encoder and a head each, ready for functional gradients."""

from .conv4 import Conv4
from .mlp import MLP
from .pair_network import PairNetwork
from .pretrained import PretrainedEncoder

__all__ = ["MLP", "Conv4", "PairNetwork", "PretrainedEncoder"]
