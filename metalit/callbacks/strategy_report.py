"""What a super learner made of its base learners: a table and a figure at the end of `test`."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..combinations.replacement import COMBINATION
from ..episodes import Episode, Samples, normal_tensors
from ..learners import SupervisedMetaLearner
from ..meta_learner import MetaLearner
from ..metrics import EpisodeMetric, MeanConfidence
from ._report import write_report

log = logging.getLogger(__name__)

Table = dict[str, dict[str, tuple[float, float]]]
"""Mean and half-width of its 95 % confidence interval, by learner and what was measured."""


class StrategyReport(Callback):
    """Says of every base learner its score, its weight and how often it was kept alone.

    For a `SupervisedMetaLearner`; base learners are scored on the query sets of the test episodes
    as they were fitted to the whole support sets. A base learner is kept alone where the
    combination of that episode did not beat it on held-out rows. Weights are those of the
    combination, kept or not. The mean weights are logged as `weights/NAME`. Writes `strategy.json`
    and `figures/strategy.png` into the run folder, and shows a table on the terminal. Base learners
    are trained once more for it.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a learner that combines nothing, before any work is done."""
        assert isinstance(pl_module, MetaLearner)
        learner = pl_module.learner
        if not isinstance(learner, SupervisedMetaLearner):
            raise ValueError(
                f"StrategyReport is for a SupervisedMetaLearner but the learner is "
                f"{learner.name}: leave it out."
            )
        self._learner = learner

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the means."""
        self._means = {
            (name, what): MeanConfidence().to(pl_module.device)
            for name in (*self._learner.learners, COMBINATION)
            for what in ("score", "weight", "kept")
            if (name, what) != (COMBINATION, "weight")
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
        """Weigh and score the base learners in every episode of a meta-batch."""
        assert isinstance(pl_module, MetaLearner)
        with torch.inference_mode(False), torch.no_grad():  # Trainer tests in inference mode
            (x, y), (query, truth) = normal_tensors(batch)
            found = [
                self._judge(Samples(x[b], y[b]), query[b], truth[b : b + 1], pl_module.metric)
                for b in range(len(x))
            ]
        for key, mean in self._means.items():
            values = torch.tensor([values[key] for values in found], device=pl_module.device)
            mean.update(values)
            if key[1] == "weight":
                pl_module.log(f"weights/{key[0]}", values.mean(), batch_size=len(x), sync_dist=True)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the table, draw the figure and write both down."""
        assert isinstance(pl_module, MetaLearner)
        table: Table = {name: {} for name, _ in self._means}
        for (name, what), mean in self._means.items():
            value = mean.compute()  # on every rank: it gathers
            table[name][what] = float(value.mean), float(value.ci95)
        count = self._means[COMBINATION, "score"].moments[0]
        episodes = int(trainer.strategy.reduce(count, reduce_op="sum"))
        log_dir = trainer.log_dir  # on every rank: it broadcasts
        if not trainer.is_global_zero:
            return
        metric = pl_module.metric.name.replace("_", " ")
        log.info("\n%s\n", _format(table, metric, episodes))
        content = {"metric": pl_module.metric.name, "episodes": episodes, "mean_and_ci95": table}
        write_report(trainer, log_dir, "strategy", content, partial(_draw, table, metric))

    def _judge(
        self, support: Samples, query: Tensor, truth: Tensor, metric: EpisodeMetric
    ) -> dict[tuple[str, str], float]:
        """Score, weight and whether it was kept, by base learner, in one episode."""
        strategy = self._learner.strategy
        evidence, weighting = self._learner.weigh(support)
        answers = [predictor(strategy.visible(query)) for predictor in evidence.predictors]
        answers.append(strategy.answer(evidence, weighting, query))
        weights, kept = weighting.report["weights"], weighting.report["kept"]
        found = {}
        for name, answer in zip([*weights, COMBINATION], answers, strict=True):
            found[name, "score"] = float(metric(answer[None], truth)[0])
            found[name, "kept"] = float(name == kept)
            found[name, "weight"] = weights.get(name, 0.0)
        return found


def _format(table: Table, metric: str, episodes: int) -> str:
    """The table as text."""
    width = max(16, *(len(name) + 2 for name in table))
    lines = [
        f"base learners and their combination on {episodes} test episodes, mean ± 95 % confidence "
        "interval;",
        "weight: in the combination of all, also where that was not kept;",
        "kept: how often it was chosen to answer alone, or the combination of all:",
        "",
        f"{'':{width}}{metric:>18}{'weight':>18}{'kept':>10}",
    ]
    for name, row in table.items():
        cells = [
            f"{row[what][0]:.3f} ± {row[what][1]:.3f}" if what in row else ""
            for what in ("score", "weight")
        ]
        lines.append(
            f"{name:{width}}" + "".join(f"{c:>18}" for c in cells) + f"{row['kept'][0]:>10.0%}"
        )
    return "\n".join(lines)


def _draw(table: Table, metric: str, file: Path) -> None:
    """Draw scores and weights side by side, one line a base learner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.4 * len(table)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names, scores = list(table), [row["score"] for row in table.values()]
    colors = ["tab:orange" if name == COMBINATION else "tab:blue" for name in names]
    for k, (mean, ci95) in enumerate(scores):
        left.errorbar(mean, k, xerr=ci95, fmt="o", capsize=3, color=colors[k])
    left.set(xlabel=f"query {metric}", yticks=range(len(names)), yticklabels=names)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.grid(alpha=0.3)
    weighed = [(k, *row["weight"]) for k, row in enumerate(table.values()) if "weight" in row]
    rows, means, intervals = zip(*weighed, strict=True)
    right.barh(rows, means, xerr=intervals, capsize=3, color="tab:blue", height=0.5)
    right.set(xlabel="weight")
    right.set_xlim(left=0)
    right.grid(alpha=0.3, axis="x")
    figure.savefig(file, dpi=150)
