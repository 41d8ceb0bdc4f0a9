"""Learners: functions from a support set and query inputs to query outputs."""

from .base import Learner
from .maml import MAML

__all__ = ["MAML", "Learner"]
