"""The learner that says which rows of an unlabelled table belong together."""

import torch
from torch import Tensor

from ..episodes import Samples, given_clusters
from ..graphs import neighbour_graph
from ..graphs.evidence import gather_evidence, measure_geometry
from ..networks import PairNetwork
from ..partitions import classical_partitions
from ..scikit import as_table, one_thread
from .base import Learner

FEWEST = 8  # rows that make a neighbour graph worth looking at


class PairwiseSimilarity(Learner):
    """Learns to cluster: the log-odds that two rows belong together (Hsu et al., 2018).

    The rows of a table are clustered by seven classical algorithms; a graph network sees the
    neighbour graph and these partitions, and says for each edge, and for other pairs, how probable
    it is that both rows belong to one cluster. Meta-trained over tables whose clusters are known,
    it holds for tables with any number of rows, columns and clusters. `AmortizedClusterer` makes
    clusters of it.

    It answers for the rows that it learned from, so that its tasks need the support set as their
    query (`TableTasks`). The support set tells the number of clusters (see `Samples`), which the
    classical algorithms are asked for. Where it is not known, `AmortizedClusterer` tries several.

    Differs from the paper: pairs of rows of tables instead of images, and the network sees the
    table as a whole.

    Args:
        network: Maps the evidence to log-odds.
        pairs_per_row: Pairs beside the edges, drawn at random, for each row.

    References:
        Learning to cluster in order to transfer across domains and tasks,
        https://arxiv.org/abs/1711.10125
    """

    def __init__(self, network: PairNetwork, pairs_per_row: int = 4) -> None:
        super().__init__()
        if pairs_per_row < 1:
            raise ValueError(f"pairs_per_row={pairs_per_row} must be at least 1: raise it.")
        self.network = network
        self.pairs_per_row = pairs_per_row

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Return log-odds of all pairs that were looked at, and 0 for the others.

        Args:
            support: x of shape `(S, *features)`; y says no more than the number of clusters.
            query: The same rows.

        Returns:
            Symmetric, of shape `(S, S)`.
        """
        rows, k = len(query), _told(support)
        with one_thread():
            graph = neighbour_graph(as_table(support.x))
            partitions = classical_partitions(graph, [k])[0]
            one = torch.randint(rows, (self.pairs_per_row * rows,))
            other = (one + torch.randint(1, rows, one.shape)) % rows
            geometry = measure_geometry(graph, one.numpy(), other.numpy())
            evidence = gather_evidence(geometry, partitions, k)
        edges, pairs = self.network(evidence.like(next(self.network.parameters())))
        odds = query.new_zeros(rows, rows)
        for a, b, values in (
            (evidence.one, evidence.other, pairs),
            (evidence.low, evidence.high, edges),
        ):
            odds = odds.index_put((a.to(odds.device), b.to(odds.device)), values.to(odds))
            odds = odds.index_put((b.to(odds.device), a.to(odds.device)), values.to(odds))
        return odds

    def check(self, support: Samples) -> None:
        """Raise a ValueError if there are too few rows, or the number of clusters is not told."""
        _told(support)
        if len(support.x) < FEWEST:
            raise ValueError(
                f"the support set has {len(support.x)} rows but a neighbour graph needs {FEWEST}: "
                "raise the number of rows of the tasks."
            )


def _told(support: Samples) -> int:
    k = given_clusters(support.y)
    if k is None:
        raise ValueError(
            "the support set does not tell the number of clusters: take tasks that do (given=1.0) "
            "or unlabelled(x, k), or AmortizedClusterer, which estimates it."
        )
    return k
