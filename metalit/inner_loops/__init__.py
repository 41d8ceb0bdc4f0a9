"""Inner loops: how parameters adapt to one task."""

from .base import InnerLoop, Params
from .gradient_descent import GradientDescent

__all__ = ["GradientDescent", "InnerLoop", "Params"]
