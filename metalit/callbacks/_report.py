"""What the reports at the end of `test` share: steps, a control, and where they are written."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from torch import nn

from ..hyperparameters import build_arguments
from ..inner_loops import InnerLoop
from ..loggers import WandB
from ..meta_learner import MetaLearner

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
    # Lightning adds the attribute where mypy cannot see it
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


@contextmanager
def inner_steps(model: nn.Module, steps: int) -> Iterator[None]:
    """Let every inner loop of a model take this number of steps in evaluation."""
    loops = [module for module in model.modules() if isinstance(module, InnerLoop)]
    before = [loop.eval_steps for loop in loops]
    for loop in loops:
        loop.eval_steps = steps
    try:
        yield
    finally:
        for loop, value in zip(loops, before, strict=True):
            loop.eval_steps = value


def untrained_copy(trained: MetaLearner, seed: int) -> MetaLearner:
    """Build a meta-learner's learner once more, with new random weights from a seed.

    Raises:
        ValueError: If the learner cannot say how it was made.
    """
    description = {**trained.description(), **trained.hparams}
    if "learner" not in description:
        raise ValueError(
            "the learner cannot be built once more, since some part of it does not keep its "
            "arguments as attributes of their names: let it, or leave the report out."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        built = build_arguments(type(trained), {"learner": description["learner"]})
    model = MetaLearner(built["learner"], trained.loss, trained.metric)
    return model.to(trained.device).eval()
