"""A graph network that says which rows of a table belong together."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..graphs.evidence import EDGE_FEATURES, PAIR_FEATURES, ROW_FEATURES, Evidence


class PairNetwork(nn.Module):
    """Maps evidence on a table to log-odds that pairs of rows belong to one cluster.

    Each block lets a row look at its nearest neighbours (message passing along the edges), and at
    the means of the clusters that M classical partitions put it into, which serve as the induced
    points of a set transformer (Lee et al., 2019): what is far is seen at a cost that is linear in
    the number of rows, and the classical result is an input. The output is a correction of the
    log-odds that are known without learning, and 0 at first: an untrained network IS the
    unlearned pipeline.

    Nothing depends on the order of rows, of columns or of clusters, or on the number of columns.

    Args:
        partitions: Number M of partitions in the evidence.
        hidden: Width of rows and edges.
        blocks: Number of blocks.

    References:
        Set Transformer, https://arxiv.org/abs/1810.00825
        Neural Message Passing for Quantum Chemistry, https://arxiv.org/abs/1704.01212
    """

    def __init__(self, partitions: int = 7, hidden: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.partitions = partitions
        self.hidden = hidden
        self.rows = nn.Linear(ROW_FEATURES + 2 * partitions, hidden)
        self.edges = nn.Linear(EDGE_FEATURES + partitions, hidden)
        self.blocks = blocks
        self.layers = nn.ModuleList(_Block(hidden) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)
        self.row_head = nn.Linear(hidden, hidden)
        self.edge_head = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.GELU(), _silent(hidden)
        )
        self.pair_head = nn.Sequential(
            nn.Linear(PAIR_FEATURES + partitions + 2 * hidden, 2 * hidden),
            nn.GELU(),
            nn.Linear(2 * hidden, hidden),
            nn.GELU(),
            _silent(hidden),
        )

    def forward(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Return the log-odds of the edges, `(E,)`, and of the other pairs, `(R,)`."""
        rows = torch.relu(self.rows(evidence.rows))  # [n, H]
        edges = torch.relu(self.edges(evidence.edges)).sum(dim=0)  # [E, H], either end alike
        for block in self.layers:
            rows, edges = block(rows, edges, evidence)
        seen = self.row_head(self.norm(rows))
        one, other = seen.index_select(0, evidence.one), seen.index_select(0, evidence.other)
        pairs = torch.cat([evidence.pairs, (one - other).abs(), one * other], dim=1)
        return (
            self.edge_head(edges)[:, 0] + evidence.edge_prior.logit(),
            self.pair_head(pairs)[:, 0] + evidence.pair_prior.logit(),
        )


class _Block(nn.Module):
    """Messages along the edges, means over clusters, and a small network for each row."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.row_norm = nn.LayerNorm(hidden)
        self.edge_norm = nn.LayerNorm(hidden)
        self.cluster_norm = nn.LayerNorm(hidden)
        self.source = nn.Linear(hidden, hidden)
        self.target = nn.Linear(hidden, hidden, bias=False)
        self.along = nn.Linear(hidden, hidden, bias=False)
        self.receive = nn.Linear(2 * hidden, hidden)
        self.pool = nn.Linear(hidden, hidden)
        self.spread = nn.Linear(2 * hidden, hidden)
        self.own = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
        )
        self.update = nn.Linear(2 * hidden, hidden)

    def forward(self, rows: Tensor, edges: Tensor, evidence: Evidence) -> tuple[Tensor, Tensor]:
        low, high = evidence.low, evidence.high
        seen, edge = self.row_norm(rows), self.along(edges)
        source, target = self.source(seen), self.target(seen)
        # index_select is several times as fast as an index in brackets
        upward = torch.relu(source.index_select(0, low) + target.index_select(0, high) + edge)
        downward = torch.relu(source.index_select(0, high) + target.index_select(0, low) + edge)
        received = _means(torch.cat([upward, downward]), torch.cat([high, low]), len(rows))
        rows = rows + self.receive(torch.cat([seen, received], dim=1))
        pooled = self.pool(self.cluster_norm(rows))
        clusters = sum(
            (
                _means(pooled, labels, evidence.k).index_select(0, labels)
                for labels in evidence.partitions
            ),
            start=torch.zeros_like(pooled),
        ) / len(evidence.partitions)
        table = pooled.mean(dim=0).expand_as(pooled)
        rows = rows + self.spread(torch.relu(torch.cat([clusters, table], dim=1)))
        rows = rows + self.own(rows)
        change = torch.cat([upward + downward, self.edge_norm(edges)], dim=1)
        return rows, edges + self.update(functional.relu(change))


def _silent(hidden: int) -> nn.Linear:
    """A last layer whose output is 0 until it is trained."""
    last = nn.Linear(hidden, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return last


def _means(values: Tensor, groups: Tensor, number: int) -> Tensor:
    """Means of values `(N, H)` in groups `(N,)`, `(number, H)`; 0 for a group without a value."""
    sums = values.new_zeros(number, values.shape[1]).index_add(0, groups, values)
    sizes = torch.bincount(groups, minlength=number).clamp(min=1)
    return sums / sizes[:, None]
