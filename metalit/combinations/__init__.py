"""Ways to combine the answers of several base learners: what a super learner learns."""

from .base import Combination, Evidence, Weighting
from .consensus import Consensus
from .gate import Gate
from .rank_average import RankAverage
from .solvers import Solver
from .stacking import Stacking

__all__ = [
    "Combination",
    "Consensus",
    "Evidence",
    "Gate",
    "RankAverage",
    "Solver",
    "Stacking",
    "Weighting",
]
