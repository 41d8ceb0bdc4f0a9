"""Checkpoints: how they reach the disk, what they hold, and what a resumed run may change."""

from .differences import (
    GivenSettings,
    changed_arguments,
    differences,
    log_changes,
    refuse_another_model,
    refuse_changes,
    refuse_schedule_changes,
    refuse_weights_alone,
    run_differences,
)
from .files import (
    DamagedCheckpointError,
    free_name,
    load_checkpoint,
    open_checkpoint,
    predecessor,
    set_aside,
    sweep,
)
from .io import SafeCheckpointIO
from .trust import refuse_forced_unpickling, refuse_foreign_code

__all__ = [
    "DamagedCheckpointError",
    "GivenSettings",
    "SafeCheckpointIO",
    "changed_arguments",
    "differences",
    "free_name",
    "load_checkpoint",
    "log_changes",
    "open_checkpoint",
    "predecessor",
    "refuse_another_model",
    "refuse_changes",
    "refuse_forced_unpickling",
    "refuse_foreign_code",
    "refuse_schedule_changes",
    "refuse_weights_alone",
    "run_differences",
    "set_aside",
    "sweep",
]
