"""Small runs into which something that is not finite can be put, at one place and time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import TensorDataset

from metalit import Episode, EpisodeDataModule, MetaLearner, Samples
from metalit.inner_loops import GradientDescent
from metalit.learners import (
    MAML,
    Learner,
    Prototypes,
    SklearnClassifier,
    SupervisedMetaLearner,
    UnsupervisedMetaLearner,
)
from metalit.metrics import Accuracy
from metalit.networks import MLP
from metalit.tasks import ClusterTasks, LabelTasks, TaskDistribution

BATCHES = 18
FIRST = 4  # meta-batch that is spoilt first

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.01),
    "Adam": partial(torch.optim.Adam, lr=0.01),
    "AdamW": partial(torch.optim.AdamW, lr=0.01, amsgrad=True),
}
TRAINED = ("MAML", "ANIL", "Prototypes", "ridge")
LEARNERS = (*TRAINED, "sklearn", "unsupervised")
PLACES = (
    *("loss", "outer gradient", "gradient of a task", "inner gradient"),
    *("support of a task", "support of all", "query of a task", "query of all"),
    *("weights", "optimizer", "embedding", "clusters"),
)


@dataclass(frozen=True)
class Case:
    """What is put where, into which run."""

    place: str
    value: float
    learner: str
    mode: str
    optimizer: str
    accumulate: int
    always: bool

    @property
    def must_finish(self) -> bool:
        """Whether what is left is enough to train on; scikit-learn says what it does not take."""
        lost = self.place in ("weights", "optimizer", "embedding", "clusters")
        checked = self.learner in ("sklearn", "unsupervised") and self.place[:7] in (
            "support",
            "query o",
        )
        return not (lost or checked) and (not self.always or self.place.endswith("of a task"))


def draw_case(number: int, seed: int) -> Case:
    """Return a case: places by turns, all else at random."""
    random = np.random.default_rng([seed, number])

    def one_of(values: Any) -> Any:
        return values[random.integers(len(values))]

    place = PLACES[number % len(PLACES)]
    inner = place == "inner gradient"
    learner = one_of(("MAML", "ANIL") if inner else LEARNERS)
    modes = ["loop", "batched", "auto"] if learner in ("MAML", "ANIL", "Prototypes") else ["auto"]
    by_data = place.startswith(("support", "query")) or place in ("outer gradient", "weights")
    if learner in ("MAML", "ANIL") and by_data:
        modes.append("compiled")  # records what a loss does once and for all
    value = one_of((torch.nan, torch.inf, -torch.inf))
    return Case(
        *(place, value, learner, one_of(modes), one_of(list(OPTIMIZERS))),
        *(one_of((1, 3)), one_of((False, True))),
    )


class Ridge(Learner):
    """A closed-form ridge regression on embedded rows."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MLP(4, [16], 8)
        self.log_alpha = nn.Parameter(torch.zeros(()))

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Solve for the weights of the support set, and apply them."""
        rows = self.network(support.x)
        targets = one_hot(support.y, 3).to(rows)
        penalty = self.log_alpha.exp() * torch.eye(rows.shape[1])
        found: Tensor = torch.linalg.solve(rows.T @ rows + penalty, rows.T @ targets)
        return self.network(query) @ found


class Spoilable(nn.CrossEntropyLoss):
    """A loss that is not finite, or whose gradient alone is not, when it is told so."""

    def __init__(self, in_gradient: bool) -> None:
        super().__init__()
        self.in_gradient = in_gradient
        self.spoilt: float | None = None

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        loss = super().forward(input, target)
        if self.spoilt is None:
            return loss
        if not self.in_gradient:
            return loss + self.spoilt
        total = input.sum()
        # the root of 0, whose slope is infinite; that of infinity times 0 is NaN
        root = (total - total.detach()).sqrt()
        return loss + {torch.inf: root, -torch.inf: -root}.get(self.spoilt, 0 * root)


class Spoil(Callback):
    """Puts the value where it is to be."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def _is_now(self, batch_idx: int) -> bool:
        return batch_idx >= FIRST if self.case.always else batch_idx == FIRST

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Episode, batch_idx: int
    ) -> None:
        """Spoil inputs, weights and losses."""
        case, now = self.case, self._is_now(batch_idx)
        loss = pl_module.loss if case.place == "loss" else None
        if case.place == "inner gradient":
            loss = pl_module.learner.inner_loss
        if loss is not None:
            loss.spoilt = case.value if now else None
        if not now:
            return
        part, _, tasks = case.place.partition(" of ")
        if part in ("support", "query"):
            x = getattr(batch, part).x
            x[slice(1, 2) if tasks == "a task" else slice(None), 0, 0] = case.value
        with torch.no_grad():
            if case.place == "weights":
                next(pl_module.parameters()).view(-1)[0] = case.value
            for memory in trainer.optimizers[0].state.values():
                if case.place == "optimizer":
                    for value in memory.values():
                        if isinstance(value, Tensor) and value.ndim:
                            value.view(-1)[0] = case.value

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        """Spoil the meta-gradient."""
        now = self._is_now(trainer.fit_loop.epoch_loop.batch_idx)
        if self.case.place == "outer gradient" and now:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            gradients[0].view(-1)[0] = self.case.value

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Let the gradient of the first task of a batch come out spoilt, once in a step."""
        if self.case.place != "gradient of a task":
            return
        seen = [-1]

        def spoil(gradient: Tensor) -> Tensor | None:
            batch_idx = trainer.fit_loop.epoch_loop.batch_idx
            if not self._is_now(batch_idx) or seen[0] == batch_idx:
                return None
            seen[0] = batch_idx
            return gradient + self.case.value

        next(pl_module.parameters()).register_hook(spoil)


class SpoiltEmbedding(TransformerMixin, BaseEstimator):
    """Embeds rows as they are, but for one value."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def fit(self, x: Any, y: Any = None) -> "SpoiltEmbedding":
        """Learn nothing."""
        return self

    def transform(self, x: Any) -> Any:
        """Return the rows."""
        x = np.array(x)
        x[0, 0] = self.value
        return x


class SpoiltClusterer(ClusterMixin, BaseEstimator):
    """Clusters of equal size, but for one label."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def fit(self, x: Any, y: Any = None) -> "SpoiltClusterer":
        """Set the labels."""
        self.labels_ = np.arange(len(x)) % 3.0
        self.labels_[0] = self.value
        return self


def rows(split: str) -> TensorDataset:
    """Six classes of 60 rows."""
    random = torch.Generator().manual_seed(len(split))
    y = torch.arange(360) % 6
    centres = 2 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    return TensorDataset(centres[y] + torch.randn(360, 4, generator=random), y)


def make_run(case: Case, folder: Path) -> tuple[Trainer, MetaLearner, EpisodeDataModule]:
    """Return a run of BATCHES meta-batches of four tasks, with checkpoints and validation."""
    torch.manual_seed(0)
    loss = Spoilable(False)
    inner = GradientDescent(0.1, 2)
    clustering: dict[str, Any] = {}
    tasks: TaskDistribution = LabelTasks(3, 3, 4)
    in_tasks = case.learner != "unsupervised"
    if case.place in ("embedding", "clusters"):
        key = ("embedding" if in_tasks else "reducer") if case.place == "embedding" else "clusterer"
        kind = SpoiltEmbedding if case.place == "embedding" else SpoiltClusterer
        clustering[key] = kind(case.value)
        if in_tasks:
            tasks = ClusterTasks(3, 3, 4, clusters=6, partitions=2, **clustering)
    learners: dict[str, Callable[[], Learner]] = {
        "MAML": lambda: MAML(MLP(4, [16], 3), inner, Spoilable(True)),
        "ANIL": lambda: MAML(MLP(4, [16], 3), inner, Spoilable(True), adapt="head.*"),
        "Prototypes": lambda: Prototypes(MLP(4, [16], 8)),
        "ridge": Ridge,
        "sklearn": lambda: SupervisedMetaLearner(
            {
                "line": SklearnClassifier(LogisticRegression()),
                "bayes": SklearnClassifier(GaussianNB()),
            }
        ),
        "unsupervised": lambda: UnsupervisedMetaLearner(
            SklearnClassifier(GaussianNB()), n_clusters=3, rounds=1, temperature=1.0, **clustering
        ),
    }
    mode: dict[str, Any] = {"tasks": case.mode}
    if case.mode == "compiled":
        mode = {"compiled": True}
    model = MetaLearner(
        learners[case.learner](), loss, Accuracy(), OPTIMIZERS[case.optimizer], **mode
    )
    data = EpisodeDataModule(
        tasks, rows, val_tasks=LabelTasks(3, 3, 4), episodes_per_epoch=4 * BATCHES, val_episodes=8
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        val_check_interval=BATCHES // 3,
        accumulate_grad_batches=case.accumulate,
        callbacks=[
            Spoil(case),
            ModelCheckpoint(folder, "best", "val/accuracy", mode="max"),
            ModelCheckpoint(folder, "last", every_n_train_steps=2, enable_version_counter=False),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
    )
    return trainer, model, data
