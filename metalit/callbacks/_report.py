"""What the reports at the end of `test` share: where they are written."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning import Trainer

from ..loggers import WandB

log = logging.getLogger(__name__)


def write_report(
    trainer: Trainer, log_dir: str | None, name: str, content: Any, draw: Callable[[Path], None]
) -> None:
    """Write `NAME.json` and `figures/NAME.png` into the run folder; hand the figure to W&B.

    Args:
        trainer: The trainer, of the process of rank 0.
        log_dir: `trainer.log_dir`, which must be asked for on every rank, since it broadcasts.
        name: Name of the report.
        content: JSON primitives.
        draw: Draws the figure into a file.
    """
    if log_dir is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    folder = Path(log_dir)
    figure = folder / "figures" / f"{name}.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2))
    draw(figure)
    log.info("The figure: %s", figure)
    for logger in trainer.loggers:
        if isinstance(logger, WandB):
            logger.log_image(f"test/{name}", [str(figure)])
