"""Partitions of a table: classical and learned ones, and what is to be expected of one."""

from .candidates import Candidate, Pairs, learned_partitions, membership, strength
from .choice import Choice, choose
from .classical import CLASSICAL, classical_partitions
from .clustering import Clustering
from .expected_rand import expected_adjusted_rand

__all__ = [
    "CLASSICAL",
    "Candidate",
    "Choice",
    "Clustering",
    "Pairs",
    "choose",
    "classical_partitions",
    "expected_adjusted_rand",
    "learned_partitions",
    "membership",
    "strength",
]
