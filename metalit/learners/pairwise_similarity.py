"""The learner that says which rows of an unlabelled table belong together."""

import numpy as np
import torch
from torch import Tensor

from ..episodes import Samples, given_clusters
from ..graphs import neighbour_graph
from ..graphs.evidence import gather_evidence
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
    query (`TableTasks`). If the number of clusters is given (see `Samples`), that is what the
    classical algorithms are asked for; otherwise one is drawn at random, log-uniform from 2 to
    `most_clusters`, so that the network learns not to rely on it.

    Differs from the paper: pairs of rows of tables instead of images, and the network sees the
    table as a whole.

    Args:
        network: Maps the evidence to log-odds.
        pairs_per_row: Pairs beside the edges, drawn at random, for each row.
        most_clusters: Largest number of clusters that is tried where none is given.

    References:
        Learning to cluster in order to transfer across domains and tasks,
        https://arxiv.org/abs/1711.10125
    """

    def __init__(
        self, network: PairNetwork, pairs_per_row: int = 4, most_clusters: int = 30
    ) -> None:
        super().__init__()
        if pairs_per_row < 1 or most_clusters < 2:
            raise ValueError(
                f"got pairs_per_row={pairs_per_row} and most_clusters={most_clusters} but at least "
                "1 and 2 are needed: raise the one that is too small."
            )
        self.network = network
        self.pairs_per_row = pairs_per_row
        self.most_clusters = most_clusters

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Return log-odds of all pairs that were looked at, and 0 for the others.

        Args:
            support: x of shape `(S, *features)`; y says no more than the number of clusters.
            query: The same rows.

        Returns:
            Symmetric, of shape `(S, S)`.
        """
        rows = len(query)
        k = given_clusters(support.y)
        asked = k if k is not None else self._guess(rows)
        with one_thread():
            graph = neighbour_graph(as_table(support.x))
            partitions = classical_partitions(graph, [asked])[0]
            one = torch.randint(rows, (self.pairs_per_row * rows,))
            other = (one + torch.randint(1, rows, one.shape)) % rows
            evidence = gather_evidence(
                graph, partitions, asked, k is not None, one.numpy(), other.numpy()
            )
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
        """Raise a ValueError if there are too few rows."""
        if len(support.x) < FEWEST:
            raise ValueError(
                f"the support set has {len(support.x)} rows but a neighbour graph needs {FEWEST}: "
                "raise the number of rows of the tasks."
            )

    def _guess(self, rows: int) -> int:
        most = max(2, min(self.most_clusters, rows // 5))
        return round(float(np.exp(torch.rand(()).item() * np.log(most / 2)) * 2))
