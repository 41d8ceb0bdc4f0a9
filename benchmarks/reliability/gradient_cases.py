"""Every learner that an outer loop trains, on small tasks, and its meta-gradient in a process.

Those without are scikit-learn's, `FineTuned` and `Readout`, which train anew on every task, and
`AmortizedClusterer`, whose network is trained as that of `PairwiseSimilarity`.

As a script, `gradient_cases.py FOLDER RANK PROCESSES PORT` is one of several processes, which
takes one meta-step of every case and writes the gradients into the folder.
"""

import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer
from sklearn.naive_bayes import GaussianNB
from torch import nn

from metalit import Episode, EpisodeDataModule, MetaLearner, Samples, losses, metrics
from metalit.combinations import Stacking
from metalit.inner_loops import GradientDescent
from metalit.learners import (
    ACR,
    MAML,
    AmortizedDetector,
    EmbeddedKMeans,
    Learner,
    PairwiseSimilarity,
    Prototypes,
    SelfSupervised,
    SklearnClassifier,
    SupervisedMetaLearner,
    TwoViews,
    UnsupervisedMetaLearner,
)
from metalit.networks import MLP, ContextMLP, Conv4, PairNetwork
from metalit.tasks import TaskDistribution

PRECISIONS = ("32-true", "64-true")
META_BATCH = 8


class Blobs(TaskDistribution):
    """Classes around random centres; queries of their own, or the rows of the support set.

    Args:
        shape: Shape of one input.
        classes: Number of classes.
        shot: Rows of a class in the support set, and in the query set.
        same: Whether the query set is the support set.
        targets: Whether y are numbers, the sums of the inputs, rather than classes.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (4,),
        classes: int = 3,
        shot: int = 5,
        same: bool = False,
        targets: bool = False,
    ) -> None:
        self.shape = shape
        self.classes = classes
        self.shot = shot
        self.same = same
        self.targets = targets

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw an episode."""
        centres = 2 * torch.randn(self.classes, *self.shape, generator=generator)
        y = torch.arange(self.classes).repeat_interleave(self.shot)
        x, query = (
            centres[y] + torch.randn(len(y), *self.shape, generator=generator) for _ in range(2)
        )
        query = x.clone() if self.same else query
        labels = [
            each.flatten(1).sum(1, keepdim=True) if self.targets else y for each in (x, query)
        ]
        if self.same:  # unlabelled, with the number of clusters
            labels[0] = torch.full_like(y, -self.classes)
        return Episode(Samples(x, labels[0]), Samples(query, labels[1]))


class Case(NamedTuple):
    """A learner and what it is trained with."""

    learner: Callable[[], Learner]
    tasks: TaskDistribution = Blobs()
    loss: Callable[[], nn.Module] = nn.CrossEntropyLoss
    metric: Callable[[], metrics.EpisodeMetric] = metrics.Accuracy


def maml(adapt: str = "*", **options: bool) -> MAML:
    network = MLP(4, [8, 8], 3)
    return MAML(network, GradientDescent(0.1, 2, **options), nn.CrossEntropyLoss(), adapt)


def dropout() -> MAML:
    network = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3))
    return MAML(network, GradientDescent(0.1, 2), nn.CrossEntropyLoss())


def images() -> MAML:
    network = Conv4(1, 3, 8, hidden=4, blocks=2)
    return MAML(network, GradientDescent(0.1, 2), nn.CrossEntropyLoss())


def base() -> dict[str, Learner]:
    return {
        "maml": maml(),
        "bayes": SklearnClassifier(GaussianNB()),
        "prototypes": Prototypes(MLP(4, 8, 5)),
    }


pairs = partial(PairNetwork, hidden=8, blocks=1)
clusters = partial(Case, loss=losses.MatchedCrossEntropy, metric=metrics.MatchedAccuracy)
scores = partial(
    Case, tasks=Blobs(classes=2, shot=12), loss=losses.BinaryCrossEntropy, metric=metrics.AUROC
)

CASES: dict[str, Case] = {
    "MAML": Case(maml),
    "MAML of first order": Case(lambda: maml(first_order=True)),
    "ANIL": Case(lambda: maml("head.*")),
    "MAML with dropout": Case(dropout),
    "MAML on images": Case(images, Blobs((1, 8, 8))),
    "MAML on targets": Case(
        lambda: MAML(MLP(4, [8, 8], 1), GradientDescent(0.01, 2), nn.MSELoss()),
        Blobs(targets=True),
        nn.MSELoss,
        metrics.MeanSquaredError,
    ),
    "Prototypes": Case(lambda: Prototypes(MLP(4, 8, 5))),
    "EmbeddedKMeans": clusters(lambda: EmbeddedKMeans(MLP(4, 8, 5), 3, train_on="clusters")),
    "EmbeddedKMeans by labels": Case(lambda: EmbeddedKMeans(MLP(4, 8, 5), 3)),
    "SelfSupervised": clusters(
        lambda: SelfSupervised(
            MAML(MLP(4, 8, 3), GradientDescent(0.1), losses.MutualInformation(consistency=1.0)),
            TwoViews(noise=0.1),
        )
    ),
    "SupervisedMetaLearner with a gate": Case(lambda: SupervisedMetaLearner(base())),
    "SupervisedMetaLearner without": Case(lambda: SupervisedMetaLearner(base(), hidden=None)),
    "SupervisedMetaLearner stacked": Case(lambda: SupervisedMetaLearner(base(), Stacking())),
    "UnsupervisedMetaLearner": clusters(
        lambda: UnsupervisedMetaLearner(maml(), n_clusters=3, temperature=2.0)
    ),
    "ACR": scores(lambda: ACR(ContextMLP(4, [16], 4))),
    "AmortizedDetector": scores(AmortizedDetector),
    "PairwiseSimilarity": Case(
        lambda: PairwiseSimilarity(pairs(), pairs_per_row=4),
        Blobs(same=True, shot=8),
        losses.SimilarityCrossEntropy,
        metrics.PairAUROC,
    ),
}


class Gradients(Callback):
    """Keeps the gradient of the one step, by parameter."""

    def __init__(self) -> None:
        self.found: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Copy them."""
        self.found = {
            name: parameter.grad.clone()
            for name, parameter in pl_module.named_parameters()
            if parameter.grad is not None
        }


def meta_gradient(
    case: Case, precision: str, processes: int, folder: Path
) -> dict[str, torch.Tensor]:
    """Take one meta-step of a case in this process and those beside it."""
    torch.manual_seed(0)
    model = MetaLearner(case.learner(), case.loss(), case.metric(), torch.optim.SGD)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("the learner has nothing to train.")
    data = EpisodeDataModule(
        case.tasks, meta_batch_size=META_BATCH, episodes_per_epoch=META_BATCH, val_episodes=2
    )
    keep = Gradients()
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_steps=1,
        limit_val_batches=0,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[keep],
        default_root_dir=folder,
    )
    trainer.fit(model, data)
    return keep.found


def run(folder: Path, rank: int, processes: int, port: int) -> None:
    """Write the gradients of every case as one process of several."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if processes > 1:
        os.environ |= {"LOCAL_RANK": str(rank)}  # so that Lightning starts no others
    warnings.simplefilter("ignore")
    names = [name for name in os.environ.get("CASES", "").split(",") if name] or list(CASES)
    found = {
        f"{name}, {precision}": meta_gradient(CASES[name], precision, processes, folder)
        for name in names
        for precision in PRECISIONS
    }
    torch.save(found, folder / f"{processes}_{rank}.pt")


if __name__ == "__main__":
    run(Path(sys.argv[1]), *map(int, sys.argv[2:]))
