"""The rows of a contaminated context that are compared with: those in the middle of it."""

import torch
from torch import Tensor

from .calibration import Calibration
from .columns import ColumnScores, SortedColumns
from .neighbours import NeighbourScores
from .representations import location_and_scale

KEPT = 0.6  # share of the rows: no more than 40 % are taken for anomalies
FEWEST = 10
ROBUST = ("three_tenths", "trimmed")
COLUMNWISE = ("ecod", "hbos")


def central_rows(table: Tensor) -> Tensor:
    """Find the rows of a table that are the least anomalous by robust scores, in order.

    Anomalies that are many, or alike, make each other look normal to scores of few neighbours, and
    widen the scales that all scores are measured in. So before a table with anomalies judges
    itself, four tenths of its rows are left out of the context that is compared with. Four scores
    that do not take a small cluster for normal say which, as the mean after `Calibration`: the
    mean distance to three tenths of the rows, that to 5 neighbours among the rows in the middle,
    ECOD and HBOS.

    Args:
        table: Rows of shape `(N, D)`, of any scale, finite.

    Returns:
        Places of 60 % of the rows, at least 10 where there are as many, `(M,)`, ascending.
    """
    table = table.double()
    mean, scale = location_and_scale(table)
    table = (table - mean) / scale
    near = NeighbourScores(table, 2.0).scores[:, [NeighbourScores.NAMES.index(n) for n in ROBUST]]
    single = ColumnScores(table, SortedColumns(table)).scores
    single = single[:, [ColumnScores.NAMES.index(name) for name in COLUMNWISE]]
    scores = torch.cat([near, single], dim=1)
    order = Calibration(scores)(scores)[0].mean(1).argsort(stable=True)
    return order[: max(FEWEST, round(KEPT * len(table)))].sort().values
