"""What the loggers share: the run folder."""

from abc import ABC
from pathlib import Path

from lightning.pytorch.loggers import Logger


class RunLogger(Logger, ABC):
    """Writes into the folder of a run.

    Args:
        save_dir: The run folder; the command line sets it.
    """

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__()
        self._save_dir = save_dir
        self._command = "fit"

    @property
    def name(self) -> str:
        """Empty: the run folder is not divided further."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the run folder is not divided further."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return self._save_dir

    def write_to(self, run: Path, command: str) -> None:
        """Set the run folder and the command, such as "fit", whose values are logged."""
        self._save_dir = str(run)
        self._command = command
