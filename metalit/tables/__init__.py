"""Random tables whose clusters are known, to meta-train on."""

from .base import Family, Plan
from .random_table import ANY_DIMENSION, FAMILIES, PLANE, random_table

__all__ = ["ANY_DIMENSION", "FAMILIES", "PLANE", "Family", "Plan", "random_table"]
