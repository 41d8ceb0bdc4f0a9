"""Inner loops: how parameters adapt to one task."""

from .base import InnerLoop, Params, gradient
from .gradient_descent import GradientDescent
from .unrolling import Memory, Unrolling

__all__ = ["GradientDescent", "InnerLoop", "Memory", "Params", "Unrolling", "gradient"]
