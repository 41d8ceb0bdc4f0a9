"""Loggers that keep a run whole: CSV that goes on after a resume, W&B that never stops a run."""

from .base import RunLogger
from .csv_file import CSV
from .wandb_run import WandB, logged_in

__all__ = ["CSV", "RunLogger", "WandB", "logged_in"]
