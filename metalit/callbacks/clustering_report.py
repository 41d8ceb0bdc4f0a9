"""What a clusterer makes of new tables, in pictures, and how far its confidence can be trusted."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from sklearn.cluster import KMeans
from torchmetrics import CatMetric

from ..episodes import Episode, Samples, normal_tensors
from ..inner_loops import InnerLoop
from ..learners import AmortizedClusterer, Learner, SklearnClusterer
from ..meta_learner import MetaLearner
from ..metrics import AdjustedRand, reliability
from ..scikit import as_table, match_labels
from ._clusterings import Picture, count_steps, draw_pictures, draw_reliability, flatten
from ._report import inner_steps, untrained_copy, write_report

log = logging.getLogger(__name__)


class ClusteringReport(Callback):
    """Draws the first test tables as they are clustered step by step, beside KMeans and the truth.

    Query rows are shown in the plane, by their first two principal components if they have more
    columns, and coloured by cluster: the truth, KMeans (fitted on the support set, told the true
    number of clusters), the learner untrained after the last number of steps, and the learner after
    each of them. Colours are matched to the truth; the titles are adjusted Rand indices. Writes
    `clusterings.json` and `figures/clusterings.png` into the run folder, and hands the figure to
    W&B.

    Of a learner that states how sure it is (`AmortizedClusterer`), trained and untrained, a second
    figure, `reliability`, has the mean index of the test tables against their mean confidence, in
    bins of as many tables each. The network of such a learner is looked at twice more for it.

    Args:
        steps: Numbers of inner steps; a learner without an inner loop is shown once.
        tables: How many tables are drawn, the first ones with two columns or more.
        bins: Bins of the reliability.
        untrained: The same learner before training, where its weights come from somewhere, such as
            `metalit.estimators.load_similarity`; None builds the learner once more.
        seed: Seed of the untrained learner's random weights.

    Raises:
        ValueError: If there is no number of steps, or a number is too small.
    """

    def __init__(
        self,
        steps: Sequence[int] = (0, 1, 5),
        tables: int = 3,
        bins: int = 6,
        untrained: Learner | None = None,
        seed: int = 0,
    ) -> None:
        if not steps or min(steps) < 0 or tables < 1 or bins < 1:
            raise ValueError(
                f"got steps={list(steps)}, tables={tables} and bins={bins} but at least one number "
                "of steps, none negative, one table and one bin are needed: correct them."
            )
        self.steps = tuple(steps)
        self.tables = tables
        self.bins = bins
        self.untrained = untrained
        self.seed = seed

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the untrained learner."""
        assert isinstance(pl_module, MetaLearner)
        before = self.untrained or untrained_copy(pl_module, self.seed).learner
        before = before.to(pl_module.device).eval()
        self._learners = {"meta-trained": pl_module.learner, "untrained": before}
        self._pictures: list[Picture] = []
        # confidence and index of a table in each row
        self._stated = {
            name: CatMetric().to(pl_module.device)
            for name, learner in self._learners.items()
            if isinstance(learner, AmortizedClusterer)
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
        """Cluster the tables of a meta-batch, the first ones to be drawn."""
        assert isinstance(pl_module, MetaLearner)
        # Trainer tests in inference mode, where no inner loop could take a gradient
        with torch.inference_mode(False), torch.no_grad():
            (x, y), (query, truth) = normal_tensors(batch)
            for b in range(len(x)):
                support, asked = Samples(x[b], y[b]), Samples(query[b], truth[b])
                states = {
                    name: _state(self._learners[name], support, asked) for name in self._stated
                }
                for name, found in states.items():
                    if not np.isnan(found).any():  # a table with a handful of different rows
                        self._stated[name].update(torch.tensor([found], dtype=torch.float32))
                if len(self._pictures) < self.tables and asked.x[0].numel() > 1:
                    confidence, _ = states.get("meta-trained", (None, None))
                    picture = self._picture(pl_module.learner, support, asked, confidence)
                    self._pictures.append(picture)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the figures and write down what they show."""
        stated = {name: metric.compute() for name, metric in self._stated.items()}  # it gathers
        log_dir = trainer.log_dir  # on every rank: it broadcasts
        if not trainer.is_global_zero:
            return
        if self._pictures:
            tables = [
                {"rows": len(p.plane), "adjusted_rand": p.scores, "confidence": p.confidence}
                for p in self._pictures
            ]
            draw = partial(draw_pictures, self._pictures)
            write_report(trainer, log_dir, "clusterings", {"tables": tables}, draw)
        curves = {
            name: reliability(pairs[:, 0].cpu().numpy(), pairs[:, 1].cpu().numpy(), self.bins)
            for name, pairs in stated.items()
            if len(pairs)
        }
        for name, curve in curves.items():
            log.info(
                "Confidence, %s: off by %.3f, rank correlation with the adjusted Rand index %.2f, "
                "over %d tables.",
                *(name, curve.error, curve.rank_correlation, curve.cases),
            )
        if curves:
            content = {name: curve._asdict() for name, curve in curves.items()}
            draw_curves = partial(draw_reliability, curves)
            write_report(trainer, log_dir, "reliability", content, draw_curves)

    def _picture(
        self, learner: Learner, support: Samples, query: Samples, confidence: float | None
    ) -> Picture:
        """Cluster one table in all ways."""
        truth, table = query.y.cpu().numpy(), as_table(query.x)
        k = max(1, min(len(support.x), len(np.unique(truth[truth >= 0]))))
        here = Samples(*(part.cpu() for part in support))
        k_means = SklearnClusterer(KMeans(k, n_init=10, random_state=self.seed))
        found = {"KMeans": k_means(here, query.x.cpu())}
        loops = any(isinstance(module, InnerLoop) for module in learner.modules())
        before, last = self._learners["untrained"], self.steps[-1]
        with inner_steps(before, last):
            name = f"untrained, {count_steps(last)}" if loops else "untrained"
            found[name] = before(support, query.x)
        for steps in self.steps if loops else self.steps[:1]:
            with inner_steps(learner, steps):
                found[count_steps(steps) if loops else learner.name] = learner(support, query.x)
        panels, scores = {"truth": truth}, {}
        for name, outputs in found.items():
            scores[name] = float(AdjustedRand()(outputs[None], query.y[None]))
            labels = outputs.argmax(dim=1).cpu().numpy()
            size = 1 + int(max(labels.max(), truth.max()))
            panels[name] = match_labels(labels, truth, size)[labels]
        return Picture(flatten(table), panels, scores, confidence)


def _state(learner: Learner, support: Samples, query: Samples) -> tuple[float, float]:
    """Confidence in a clustering, and its adjusted Rand index."""
    assert isinstance(learner, AmortizedClusterer)
    clustering = learner.cluster(support)
    shares = torch.from_numpy(clustering.assign(as_table(query.x))[0])
    return clustering.confidence, float(AdjustedRand()(shares[None], query.y.cpu()[None]))
