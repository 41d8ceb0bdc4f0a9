"""What a training step does around the learner: seeds, and hands its values on."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from metalit import Episode, EpisodeDataModule, MetaLearner
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import MeanSquaredError
from metalit.tasks import SinusoidTasks


def fit(kind: Callable[..., MetaLearner], folder: Path, episodes: int, **options: Any) -> None:
    maml = MAML(nn.Linear(1, 1), GradientDescent(lr=0.01), nn.MSELoss())
    trainer = Trainer(
        accelerator="cpu",
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"max_epochs": 1, **options},
    )
    data = EpisodeDataModule(
        SinusoidTasks(3, 4), meta_batch_size=2, episodes_per_epoch=episodes, val_episodes=2
    )
    trainer.fit(kind(maml, nn.MSELoss(), MeanSquaredError()), data)


class Seen(Logger, Callback):
    """Keeps what loggers are told, and what callbacks and progress bars find after every step."""

    name = version = "seen"

    def __init__(self) -> None:
        Logger.__init__(self)
        self.rows: list[dict[str, float]] = []
        self.metrics: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({**metrics, "step": step})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        shown = trainer.progress_bar_metrics
        assert {key: float(value) for key, value in trainer.logged_metrics.items()} == shown
        self.metrics.append({key: float(value) for key, value in trainer.callback_metrics.items()})
        assert shown.items() <= self.metrics[-1].items()


class PlainLogging(MetaLearner):
    """Logs as any LightningModule does."""

    def _log_step(self, values: dict[str, Tensor], batch_idx: int) -> None:
        self.log_dict(values, prog_bar=True, batch_size=2)


@pytest.mark.parametrize(("accumulate", "every"), [(1, 1), (1, 4), (2, 1), (3, 2), (1, 0)])
def test_a_step_is_logged_as_log_dict_would_log_it(
    tmp_path: Path, accumulate: int, every: int
) -> None:
    seen = []
    for kind in (MetaLearner, PlainLogging):
        torch.manual_seed(0)
        seen.append(Seen())
        options = {"accumulate_grad_batches": accumulate, "log_every_n_steps": every}
        fit(kind, tmp_path, 14, logger=seen[-1], callbacks=[seen[-1]], max_epochs=2, **options)
    ours, plain = seen
    assert ours.rows == plain.rows
    assert bool(ours.rows) == bool(every)
    assert ours.metrics == plain.metrics
    assert len(ours.metrics) == 14
    assert len({row["train/loss"] for row in ours.metrics}) == 14


def test_a_step_seeds_what_torch_draws_and_asks_nothing_of_absent_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    class Drawing(MetaLearner):
        def training_step(self, episodes: Episode, batch_idx: int) -> Tensor:
            drawn.append(torch.initial_seed())
            return super().training_step(episodes, batch_idx)

    asked: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", asked.append)
    fit(partial(Drawing, seed=3), tmp_path, 8, logger=False)
    sequences = [np.random.SeedSequence([3, step, 0]) for step in range(len(drawn))]
    assert drawn == [int(each.generate_state(1, np.uint64)[0]) for each in sequences]
    assert not asked
