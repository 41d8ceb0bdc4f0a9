"""Task batching: what is written for one task runs for all tasks of a meta-batch at once."""

from . import image_rules, rules  # noqa: F401  # they register what they know
from .finite import have_finite_norm
from .task_batch import RandomState, TaskBatch, active_batch, per_task
from .task_map import Mode, TaskMap
from .task_tensor import NotBatchableError, TaskTensor

__all__ = [
    "Mode",
    "NotBatchableError",
    "RandomState",
    "TaskBatch",
    "TaskMap",
    "TaskTensor",
    "active_batch",
    "have_finite_norm",
    "per_task",
]
