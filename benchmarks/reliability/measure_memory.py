"""Evaluation does not leak: the resident memory is flat over 10,000 episodes.

`Trainer.test` of MAML on an MLP, MAML on a Conv4 and a learner of scikit-learn. The memory after a
tenth of the episodes, when all caches are full, is compared with the largest later on, measured
every hundredth of the way: it may grow by 5 MB. `--count` is the number of episodes of each.
"""

import gc
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from report import Measurement, print_rows
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import TensorDataset

from metalit import EpisodeDataModule, MetaLearner
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML, Learner, SklearnClassifier
from metalit.metrics import Accuracy
from metalit.networks import MLP, Conv4
from metalit.tasks import LabelTasks

LIMIT = 5.0  # MB
META_BATCH = 4


def resident() -> float:
    """Return the resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Watch(Callback):
    """Notes the memory from time to time."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.seen: list[float] = []

    def on_test_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Note it, without what waits to be collected."""
        if (batch_idx + 1) % self.every == 0:
            gc.collect()
            self.seen.append(resident())


def rows(split: str) -> TensorDataset:
    """20 classes of 30 rows."""
    return TensorDataset(torch.randn(600, 10), torch.arange(600) % 20)


def images(split: str) -> TensorDataset:
    """20 classes of 30 images in the size of Omniglot."""
    return TensorDataset(torch.rand(600, 1, 28, 28), torch.arange(600) % 20)


def maml(network: nn.Module) -> Learner:
    """MAML of two steps around a network."""
    return MAML(network, GradientDescent(0.1, 2), nn.CrossEntropyLoss())


LEARNERS: dict[str, tuple[Callable[[], Learner], Callable[[str], TensorDataset]]] = {
    "MAML of an MLP": (lambda: maml(MLP(10, [64, 64], 5)), rows),
    "MAML of a Conv4": (lambda: maml(Conv4(1, 5, 28, hidden=16)), images),
    "scikit-learn": (lambda: SklearnClassifier(LogisticRegression()), rows),
}


def measure(name: str, count: int) -> dict[str, float]:
    """Return the memory in MB after a tenth of the episodes, and how much it has grown since."""
    make, dataset = LEARNERS[name]
    torch.manual_seed(0)
    model = MetaLearner(make(), nn.CrossEntropyLoss(), Accuracy())
    data = EpisodeDataModule(
        LabelTasks(5, 1, 5), dataset, meta_batch_size=META_BATCH, test_episodes=count
    )
    watch = Watch(max(1, count // META_BATCH // 100))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        begin = time.monotonic()
        trainer.test(model, data, verbose=False)
    first = watch.seen[len(watch.seen) // 10]
    return {
        "seconds": round(time.monotonic() - begin, 1),
        "resident": round(first, 1),
        "growth": round(max(watch.seen[len(watch.seen) // 10 :]) - first, 2),
        "growth_at_the_end": round(watch.seen[-1] - first, 2),
    }


def main(argv: list[str]) -> int:
    measurement = Measurement("memory", __doc__, count=10_000)
    options = measurement.parse(argv)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    found = {}
    for name in LEARNERS:
        found[name] = measure(name, options.count)
        print(f"{name}: {found[name]}", flush=True)
    table = [[name, *row.values()] for name, row in found.items()]
    print_rows([["learner", "seconds", "MB after a tenth", "growth", "at the end"], *table])
    broken = sum(row["growth"] > LIMIT for row in found.values())
    return measurement.write({"episodes": options.count, "limit": LIMIT, "found": found}, broken)
