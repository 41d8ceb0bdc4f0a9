"""Episodes in which a model diverges are counted, and weights that are lost are not saved."""

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from metalit import Episode, MetaLearner, Samples
from metalit.guards import check_finite
from metalit.learners import Learner
from metalit.metrics import Accuracy, MeanConfidence, MeanSquaredError

from .test_guards import Rows, make_data, make_model, make_trainer


class Spoil(Callback):
    """Puts NaN into the support inputs of evaluation episodes, from a number of epochs on."""

    def __init__(self, count: int, epoch: int = 0) -> None:
        self.count, self.epoch = count, epoch

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Episode, batch_idx: int, *args: Any
    ) -> None:
        if trainer.current_epoch >= self.epoch:
            numbers = torch.arange(len(batch.support.x)) + batch_idx * 4
            batch.support.x[numbers < self.count] = torch.nan

    on_test_batch_start = on_validation_batch_start


def test_a_diverged_validation_episode_counts_as_the_worst_of_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (whole,) = make_trainer(tmp_path, limit_val_batches=None).validate(
        make_model(), make_data(), verbose=False
    )
    trainer = make_trainer(tmp_path, Spoil(3), limit_val_batches=None)
    (found,) = trainer.validate(make_model(), make_data(), verbose=False)
    assert set(found) - set(whole) == {"val/masked_tasks"}
    assert found["val/masked_tasks"] == 3
    data = make_data()
    data.setup("validate")
    losses = torch.cat(
        [
            (make_model().eval()(b.episodes) - b.episodes.query.y).square().mean((1, 2)).detach()
            for b in data.val_dataloader()
        ]
    )
    losses[:3] = losses[3:].max()
    for key in ("val/loss", "val/mean_squared_error"):
        assert found[key] == pytest.approx(losses.mean().item(), rel=1e-5)
    interval = 1.96 * losses.std().item() / 8**0.5
    assert found["val/mean_squared_error_ci95"] == pytest.approx(interval, rel=1e-5)
    (text,) = [r.getMessage() for r in caplog.records if r.name == "metalit.guards"]
    assert text.startswith("the val loss of 3 of 8 episodes is nan or inf")


@pytest.mark.parametrize("count", [4, 5])
def test_more_than_half_diverged_episodes_end_the_run_before_a_checkpoint(
    tmp_path: Path, count: int
) -> None:
    best = ModelCheckpoint(tmp_path / "best", "{epoch}", monitor="val/loss")
    last = ModelCheckpoint(tmp_path / "last", "{epoch}", save_on_train_epoch_end=False)
    spoil = Spoil(count, epoch=1)
    trainer = make_trainer(tmp_path, spoil, best, last, max_epochs=2, limit_val_batches=None)
    if count == 4:
        trainer.fit(make_model(), make_data())
        assert [f.name for f in (tmp_path / "last").iterdir()] == ["epoch=1.ckpt"]
        return
    with pytest.raises(ValueError, match=r"^the val loss of 5 of 8 episodes is nan or inf: lower"):
        trainer.fit(make_model(), make_data())
    for folder in ("best", "last"):
        assert [f.name for f in (tmp_path / folder).iterdir()] == ["epoch=0.ckpt"]


def test_a_test_never_ends_in_an_error(tmp_path: Path) -> None:
    for count in (1, 8):
        trainer = make_trainer(tmp_path, Spoil(count))
        (found,) = trainer.test(make_model(), make_data(), verbose=False)
        assert found["test/masked_tasks"] == count
        assert torch.tensor(found["test/loss"]).isnan() == (count == 8)


@pytest.mark.parametrize(("worst", "stands_in"), [("lowest", 0.2), ("highest", 3.0), (None, None)])
def test_the_worst_of_the_others_stands_in_for_a_diverged_episode(
    worst: Any, stands_in: float | None
) -> None:
    metric = MeanConfidence(worst)
    metric.update(torch.tensor([0.5, torch.nan]), torch.tensor([False, True]))
    metric.update(torch.tensor([3.0, 0.2]))
    metric.update(torch.tensor([torch.inf]), torch.tensor([True]))
    numbers = torch.tensor([0.5, 3.0, 0.2] + ([] if stands_in is None else 2 * [stands_in]))
    mean, ci95 = metric.compute()
    assert float(mean) == pytest.approx(numbers.mean().item())
    assert float(ci95) == pytest.approx(1.96 * (numbers.std() / len(numbers) ** 0.5).item())
    assert (int(metric.lost), int(metric.count)) == (2, 5)
    metric.update(torch.tensor([torch.nan]))
    assert metric.compute().mean.isnan()  # what has not diverged is not hidden


def test_a_metric_says_which_way_is_better() -> None:
    assert MeanSquaredError.higher_is_better is False
    assert Accuracy.higher_is_better is True


@pytest.mark.parametrize("save", [True, False])
def test_weights_that_overflow_are_neither_saved_nor_the_end_of_a_run(
    tmp_path: Path, save: bool
) -> None:
    class Late(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.count = getattr(self, "count", 0) + 1
            self.param_groups[0]["lr"] = 3e38 if self.count == 6 else 1e-3
            return super().step(closure)

    saver = ModelCheckpoint(tmp_path, "last", every_n_train_steps=3)
    callbacks = [saver] if save else []
    data, model = make_data(6), make_model(optimizer=partial(Late, lr=1e-3))
    with pytest.raises(
        ValueError, match=r"^learner\.network\..* is not finite .*: lower"
    ) as caught:
        make_trainer(tmp_path, *callbacks).fit(model, data)
    assert "\n" not in str(caught.value)
    assert len(list(tmp_path.glob("*.ckpt"))) == save
    for file in tmp_path.glob("*.ckpt"):
        assert torch.load(file, weights_only=True)["global_step"] == 3


def test_weights_that_are_lost_end_the_run_at_the_next_step(tmp_path: Path) -> None:
    model = make_model()
    nn.init.constant_(model.learner.network.head.bias, torch.nan)
    with pytest.raises(ValueError, match=r"learner\.network\..*bias is not finite at step 0"):
        make_trainer(tmp_path).fit(model, make_data())


def test_what_is_not_trained_may_be_infinite_but_not_nan() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    model.register_parameter("fixed", nn.Parameter(torch.tensor(torch.inf), requires_grad=False))
    check_finite(model, [], "now")
    for name, value in (("mask", torch.nan), ("fixed", torch.nan), ("weight", torch.inf)):
        broken = deepcopy(model)
        with torch.no_grad():
            getattr(broken, name).view(-1)[0] = value
        with pytest.raises(ValueError, match=f"{name} is not finite now"):
            check_finite(broken, [], "now")
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    optimizer.state[model.weight]["momentum_buffer"] = torch.tensor([[torch.inf]])
    with pytest.raises(ValueError, match="momentum_buffer of the optimizer is not finite now"):
        check_finite(model, [optimizer], "now")


class Inverting(Learner):
    """Inverts what the support set gives, which is singular for some tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, support: Samples, query_x: torch.Tensor) -> torch.Tensor:
        inverse = torch.linalg.inv(support.x[:1, :1])
        return self.weight * query_x / inverse.sum()


class Singular(Spoil):
    """Lets the first support row be 0, from which there is nothing to invert."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Episode, batch_idx: int
    ) -> None:
        self.on_validation_batch_start(trainer, pl_module, batch, batch_idx)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Episode, batch_idx: int, *args: Any
    ) -> None:
        numbers = torch.arange(len(batch.support.x)) + batch_idx * 4
        batch.support.x[numbers < self.count] = 0.0

    on_test_batch_start = on_validation_batch_start


@pytest.mark.parametrize("options", [{}, {"tasks": "batched"}, {"chunk": 2}], ids=str)
def test_tasks_without_a_solution_are_left_out_in_every_stage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    learner = Inverting()
    model = MetaLearner(learner, nn.MSELoss(), MeanSquaredError(), **options)
    rows = Rows()
    trainer = make_trainer(tmp_path, Singular(5), logger=rows, limit_val_batches=None)
    with pytest.raises(ValueError, match=r"^the val loss of 5 of 8 episodes is nan or inf"):
        trainer.fit(model, make_data())
    assert rows.found("train/masked_tasks") == [(0, 4), (1, 1)]
    assert rows.found("guard/skipped_steps") == [(0, 1)]
    (tested,) = make_trainer(tmp_path, Singular(3)).test(model, make_data(), verbose=False)
    assert tested["test/masked_tasks"] == 3
    assert torch.tensor(tested["test/loss"]).isfinite()
    said = [r.getMessage() for r in caplog.records if r.name == "metalit.batching.task_map"]
    assert len(said) == 1
    assert said[0].startswith("a task has no answer (linalg.inv: ")
