"""Neighbour graphs of a table, and the partitions that can be read off them."""

from .neighbours import NeighbourGraph, neighbour_graph
from .spectral import spectral_embedding
from .trees import SpanningTree, cut_dense, genie, spanning_tree

__all__ = [
    "NeighbourGraph",
    "SpanningTree",
    "cut_dense",
    "genie",
    "neighbour_graph",
    "spanning_tree",
    "spectral_embedding",
]
