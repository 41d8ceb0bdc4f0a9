"""Pseudo-labels of one table: how many clusters, where they lie, rules, refinement."""

from .number import Selection, choose_number
from .refinement import Keep, Opinions, Refinement, Refiner, combine, to_log_probabilities
from .rules import (
    CannotLink,
    Constraints,
    Groups,
    KnownLabels,
    LabellingFunction,
    MustLink,
    Pairs,
    Rule,
    assign,
    gather_rules,
)
from .structure import ClusterStructure, Covariance, fit_structure

__all__ = [
    "CannotLink",
    "ClusterStructure",
    "Constraints",
    "Covariance",
    "Groups",
    "Keep",
    "KnownLabels",
    "LabellingFunction",
    "MustLink",
    "Opinions",
    "Pairs",
    "Refinement",
    "Refiner",
    "Rule",
    "Selection",
    "assign",
    "choose_number",
    "combine",
    "fit_structure",
    "gather_rules",
    "to_log_probabilities",
]
