"""Checkpoints: how they reach the disk, what they hold, and what a resumed run may change."""

from .differences import OptimizerSettings, differences
from .files import DamagedCheckpointError, load_checkpoint, predecessor, sweep
from .io import SafeCheckpointIO

__all__ = [
    "DamagedCheckpointError",
    "OptimizerSettings",
    "SafeCheckpointIO",
    "differences",
    "load_checkpoint",
    "predecessor",
    "sweep",
]
