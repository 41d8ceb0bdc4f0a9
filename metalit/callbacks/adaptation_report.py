"""The score after 0, 1, … inner steps: a table and a figure at the end of `test`."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..episodes import Episode, Samples
from ..learners import Learner
from ..meta_learner import MetaLearner
from ..metrics import EpisodeMetric, MeanConfidence
from ._report import inner_steps, untrained_copy, write_report
from .pretraining import ClusterPretraining

log = logging.getLogger(__name__)

Table = dict[str, dict[str, list[float]]]
"""Mean and half-width of the interval, by row and number of steps."""


class AdaptationReport(Callback):
    """Scores the test episodes after several numbers of inner steps, beside baselines.

    Two baselines have the same network, inner loop and episodes: one starts from random weights,
    the other from weights that were pre-trained the ordinary way. A third is a classical method,
    which takes no steps: its score is the same in every column. Writes `adaptation.json` and
    `figures/adaptation.png` into the run folder, and shows a table on the terminal.

    Args:
        steps: Numbers of inner steps.
        pretraining: Pre-trains a baseline on the inputs of the training split; None leaves it out.
        reference: Learner that has nothing to meta-train, such as a `SklearnClusterer`, which
            learns the support set of each test episode; None leaves it out.
        seed: Seed of the baselines' random weights.
    """

    def __init__(
        self,
        steps: Sequence[int] = (0, 1, 3, 5, 10),
        pretraining: ClusterPretraining | None = None,
        reference: Learner | None = None,
        seed: int = 0,
    ) -> None:
        self.steps = tuple(steps)
        self.pretraining = pretraining
        self.reference = reference
        self.seed = seed

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the baselines."""
        assert isinstance(pl_module, MetaLearner)
        self._models = {"meta-trained": pl_module}
        with torch.inference_mode(False), torch.enable_grad():  # Trainer tests in inference mode
            if self.pretraining is not None:
                self._models["pre-trained"] = self._pretrained(self.pretraining, trainer, pl_module)
            self._models["untrained"] = untrained_copy(pl_module, self.seed)
        self._scores = {
            (name, step): MeanConfidence().to(pl_module.device)
            for name in self._models
            for step in self.steps
        }
        self._reference_score = MeanConfidence().to(pl_module.device)

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
            # the run draws from the global generator as if there were no report
            with inner_steps(model, step), torch.random.fork_rng(devices=[]):
                score.update(model.score(batch)[1])
        if self.reference is not None:
            values = self._refer(batch, self._models["meta-trained"].metric)
            self._reference_score.update(values.to(pl_module.device))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the table, draw the figure and write both down."""
        values = {key: score.compute() for key, score in self._scores.items()}
        rows = list(self._models)
        if self.reference is not None:
            score = self._reference_score.compute()  # on every rank: it gathers
            values |= {(self.reference.name, step): score for step in self.steps}
            rows.append(self.reference.name)
        count = next(iter(self._scores.values())).moments[0]
        episodes = int(trainer.strategy.reduce(count, reduce_op="sum"))
        log_dir = trainer.log_dir  # on every rank: it broadcasts
        if not trainer.is_global_zero:
            return
        metric = self._models["meta-trained"].metric.name
        table = {
            name: {str(s): [float(v) for v in values[name, s]] for s in self.steps} for name in rows
        }
        log.info("\n%s\n", _format(table, metric, episodes))
        content = {"metric": metric, "episodes": episodes, "mean_and_ci95": table}
        flat = self.reference.name if self.reference else None
        draw = partial(_draw, table, metric, flat)
        write_report(trainer, log_dir, "adaptation", content, draw)

    def _refer(self, episodes: Episode, metric: EpisodeMetric) -> Tensor:
        """Score the classical method on each of B episodes, shape `(B,)`."""
        assert self.reference is not None
        (x, y), (query, truth) = (Samples(*(t.cpu() for t in part)) for part in episodes)
        return torch.cat(
            [
                metric(self.reference(Samples(x[b], y[b]), query[b])[None], truth[b : b + 1])
                for b in range(len(x))
            ]
        )

    def _pretrained(
        self, pretraining: ClusterPretraining, trainer: Trainer, trained: MetaLearner
    ) -> MetaLearner:
        # set by the data connector, unseen by mypy
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        model = untrained_copy(trained, self.seed).cpu()
        network: Any = model.learner
        network.network = pretraining(network.network, data.inputs("train"))
        return model.to(trained.device).eval()


def _format(table: Table, metric: str, episodes: int) -> str:
    """The table as text, in per cent where all scores are shares."""
    percent = all(abs(mean) <= 1 for row in table.values() for mean, _ in row.values())
    scale, digits, unit = (100, 1, "in %, ") if percent else (1, 3, "")
    steps = next(iter(table.values()))
    width = max(14, *(len(name) + 2 for name in table))
    lines = [
        f"{metric.replace('_', ' ')} on {episodes} test episodes, {unit}mean ± 95 % confidence "
        "interval,",
        "after a number of gradient steps on the support set:",
        "",
        f"{'inner steps':{width}}" + "".join(f"{step:>16}" for step in steps),
    ]
    for name, row in table.items():
        cells = (f"{scale * m:.{digits}f} ± {scale * ci:.{digits}f}" for m, ci in row.values())
        lines.append(f"{name:{width}}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _draw(table: Table, metric: str, flat: str | None, file: Path) -> None:
    """Draw the scores against the steps; the row called `flat` takes none and gets no marks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        xlabel="gradient steps on the support set", ylabel=f"query {metric.replace('_', ' ')}"
    )
    for (name, row), marker in zip(table.items(), "osDv", strict=False):
        steps = [int(step) for step in row]
        mean, ci95 = torch.tensor(list(row.values())).T.tolist()
        if name == flat:
            axes.axhline(mean[0], label=name, color="black", linestyle="--", zorder=1)
            axes.axhspan(mean[0] - ci95[0], mean[0] + ci95[0], color="black", alpha=0.1)
        else:
            axes.errorbar(steps, mean, yerr=ci95, label=name, marker=marker, capsize=3)
    axes.set_xticks(sorted({int(step) for row in table.values() for step in row}))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)
