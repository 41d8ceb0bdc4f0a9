"""The score after 0, 1, … inner steps: a table and a figure at the end of `test`."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from ..episodes import Episode
from ..hyperparameters import build_arguments
from ..inner_loops import InnerLoop
from ..loggers import WandB
from ..meta_learner import MetaLearner
from ..metrics import MeanConfidence
from .pretraining import ClusterPretraining

log = logging.getLogger(__name__)


class AdaptationReport(Callback):
    """Scores the test episodes after several numbers of inner steps, beside two baselines.

    The baselines have the same network, inner loop and episodes: one starts from random weights,
    the other from weights that were pre-trained the ordinary way. Writes `adaptation.json` and
    `figures/adaptation.png` into the run folder, and shows a table on the terminal.

    Args:
        steps: Numbers of inner steps.
        pretraining: Pre-trains a baseline on the inputs of the training split; None leaves it out.
        seed: Seed of the baselines' random weights.
    """

    def __init__(
        self,
        steps: Sequence[int] = (0, 1, 3, 5, 10),
        pretraining: ClusterPretraining | None = None,
        seed: int = 0,
    ) -> None:
        self.steps = tuple(steps)
        self.pretraining = pretraining
        self.seed = seed

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the baselines."""
        assert isinstance(pl_module, MetaLearner)
        self._models = {"meta-trained": pl_module}
        with torch.inference_mode(False), torch.enable_grad():  # Trainer tests in inference mode
            if self.pretraining is not None:
                self._models["pre-trained"] = self._pretrained(trainer, pl_module)
            self._models["untrained"] = self._untrained(pl_module)
        self._scores = {
            (name, step): MeanConfidence() for name in self._models for step in self.steps
        }

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Episode,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score a meta-batch with every model and number of steps."""
        for (name, step), score in self._scores.items():
            model = self._models[name]
            with _inner_steps(model, step):
                score.update(model.score(batch)[1].cpu())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the table, draw the figure and write both down."""
        values = {key: score.compute() for key, score in self._scores.items()}
        if not trainer.is_global_zero:
            return
        metric = self._models["meta-trained"].metric.name
        table = {
            name: {str(s): [float(v) for v in values[name, s]] for s in self.steps}
            for name in self._models
        }
        episodes = int(next(iter(self._scores.values())).moments[0])
        log.info("\n%s\n", self._table(table, metric, episodes))
        if trainer.log_dir is None or trainer.fast_dev_run:
            return
        folder = Path(trainer.log_dir)
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        figure = folder / "figures" / "adaptation.png"
        (folder / "adaptation.json").write_text(
            json.dumps({"metric": metric, "episodes": episodes, "mean_and_ci95": table}, indent=2)
        )
        _draw(table, metric, figure)
        log.info("The figure: %s", figure)
        for logger in trainer.loggers:
            if isinstance(logger, WandB):
                logger.log_image("test/adaptation", [str(figure)])

    def _untrained(self, trained: MetaLearner) -> MetaLearner:
        """Build the learner once more, with new random weights."""
        description = {**trained.description(), **trained.hparams}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            built = build_arguments(type(trained), {"learner": description["learner"]})
        model = MetaLearner(built["learner"], trained.loss, trained.metric)
        return model.to(trained.device).eval()

    def _pretrained(self, trainer: Trainer, trained: MetaLearner) -> MetaLearner:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        model = self._untrained(trained).cpu()
        network: Any = model.learner
        network.network = self.pretraining(network.network, data.inputs("train"))  # type: ignore[misc]
        return model.to(trained.device).eval()

    def _table(self, table: dict[str, dict[str, list[float]]], metric: str, episodes: int) -> str:
        percent = all(abs(m) <= 1 for row in table.values() for m, _ in row.values())
        scale, unit = (100, "in %, ") if percent else (1, "")
        title = (
            f"{metric.replace('_', ' ')} on {episodes} test episodes, {unit}mean ± 95 % confidence "
            "interval,\nafter a number of gradient steps on the support set:"
        )
        head = f"{'inner steps':14}" + "".join(f"{step:>15}" for step in self.steps)
        rows = [
            f"{name:14}"
            + "".join(f"{f'{scale * m:.1f} ± {scale * ci:.1f}':>15}" for m, ci in row.values())
            for name, row in table.items()
        ]
        return "\n".join([title, "", head, *rows])


@contextmanager
def _inner_steps(model: nn.Module, steps: int) -> Iterator[None]:
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


def _draw(table: dict[str, dict[str, list[float]]], metric: str, file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="gradient steps on the support set", ylabel=f"query {metric.replace('_', ' ')}"
    )
    for (name, row), marker in zip(table.items(), "osD", strict=False):
        steps = [int(step) for step in row]
        mean, ci95 = torch.tensor(list(row.values())).T.tolist()
        axes.errorbar(steps, mean, yerr=ci95, label=name, marker=marker, capsize=3)
    axes.set_xticks(sorted({int(step) for row in table.values() for step in row}))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)
