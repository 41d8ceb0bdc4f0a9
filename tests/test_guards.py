"""Nothing that is not finite spreads: into weights, optimizers, scores or checkpoints."""

import json
import os
import signal
from collections.abc import Collection
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from metalit import Episode, EpisodeDataModule, MetaLearner
from metalit.callbacks import LastCheckpoint
from metalit.guards import StepGuard, check_finite
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import SinusoidTasks

OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.1),
    "Adam": partial(torch.optim.Adam, lr=0.01),
    "AdamW": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, amsgrad=True),
}


def make_model(**options: Any) -> MetaLearner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        maml = MAML(MLP(1, [8], 1), GradientDescent(0.01, 2), nn.MSELoss())
    return MetaLearner(maml, nn.MSELoss(), MeanSquaredError(), **options)


class Rows(Logger):
    """Keeps what is logged."""

    name = version = "rows"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append({**metrics, "step": step})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def found(self, key: str) -> list[tuple[int, float]]:
        return [(int(row["step"]), row[key]) for row in self.rows if key in row]


class Poison(Callback):
    """Puts a value into gradients or support inputs, and keeps what a step leaves behind."""

    def __init__(
        self,
        steps: Collection[int] = (),
        batches: Collection[int] = (),
        tasks: Collection[int] = (),
        value: float = torch.nan,
    ) -> None:
        self.steps, self.batches, self.tasks, self.value = steps, batches, list(tasks), value
        self.states: dict[int, Any] = {}
        self.stop_after: int | None = None  # meta-batches

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Episode, batch_idx: int
    ) -> None:
        if batch_idx in self.batches:
            batch.support.x[self.tasks] = self.value

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step in self.steps:
            next(pl_module.parameters()).grad.view(-1)[0] = self.value

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        optimizer = trainer.optimizers[0]
        self.states[trainer.global_step] = deepcopy(
            [*pl_module.state_dict().values(), *_tensors(optimizer.state_dict()["state"])]
        )
        if trainer.fit_loop.epoch_loop.batch_progress.total.processed == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)


def _tensors(state: dict[int, dict[str, Any]]) -> list[torch.Tensor]:
    return [v for memory in state.values() for v in memory.values() if isinstance(v, torch.Tensor)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def make_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    given = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "limit_val_batches": 0,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
    }
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**given, **options})


def make_data(batches: int = 8, **options: Any) -> EpisodeDataModule:
    given = {"meta_batch_size": 4, "episodes_per_epoch": 4 * batches, "val_episodes": 8}
    return EpisodeDataModule(SinusoidTasks(3, 4), **{**given, "test_episodes": 8, **options})


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "clip",
    [{}, {"gradient_clip_val": 1.0}, {"gradient_clip_val": 1, "gradient_clip_algorithm": "value"}],
    ids=["", "norm", "value"],
)
def test_a_skipped_step_leaves_weights_and_optimizer_bit_equal(
    tmp_path: Path, optimizer: str, clip: dict[str, Any], value: float
) -> None:
    poison, model = Poison(steps=[3], value=value), make_model(optimizer=OPTIMIZERS[optimizer])
    make_trainer(tmp_path, poison, **clip).fit(model, make_data())
    states = poison.states
    assert same(states[4], states[3])
    assert not any(same(states[step], states[step - 1]) for step in (2, 3, 5, 6, 7, 8))


def test_the_first_step_may_be_skipped_too(tmp_path: Path) -> None:
    poison, model = Poison(steps=[0]), make_model(optimizer=OPTIMIZERS["AdamW"])
    first = deepcopy(list(model.state_dict().values()))
    make_trainer(tmp_path, poison).fit(model, make_data(2))
    assert same(poison.states[1], first)  # and no memory of the optimizer
    assert len(poison.states[2]) > len(first)


def test_skipped_steps_are_counted_logged_and_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, trainer = Rows(), None
    trainer = make_trainer(tmp_path, Poison(steps=[2, 5]), logger=rows, log_every_n_steps=4)
    trainer.fit(make_model(), make_data())
    assert rows.found("guard/skipped_steps") == [(2, 1), (5, 2)]
    assert int(trainer.callback_metrics["guard/skipped_steps"]) == 2
    assert not rows.found("train/masked_tasks")
    (text,) = [r.getMessage() for r in caplog.records if r.name == "metalit.guards"]
    assert text.startswith("step 2 is skipped, since its meta-gradient is not finite")
    assert "\n" not in text


def test_a_clean_run_says_nothing_of_guards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = Rows()
    make_trainer(tmp_path, logger=rows, limit_val_batches=None).fit(make_model(), make_data())
    assert not [key for row in rows.rows for key in row if "masked" in key or "guard" in key]
    assert not [record for record in caplog.records if record.name == "metalit.guards"]


def test_tasks_left_out_are_counted_logged_and_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, poison = Rows(), Poison(batches=[1, 2, 6], tasks=[0, 3])
    trainer = make_trainer(tmp_path, poison, logger=rows, log_every_n_steps=4)
    trainer.fit(make_model(), make_data())
    assert rows.found("train/masked_tasks") == [(3, 4), (7, 2)]
    assert not rows.found("guard/skipped_steps")
    assert all(torch.tensor([row["train/loss"] for row in rows.rows if "train/loss" in row]) > 0)
    (text,) = [r.getMessage() for r in caplog.records if r.name == "metalit.guards"]
    assert text.startswith("2 of 4 tasks of step 1 are left out")


def test_a_step_is_skipped_only_if_all_tasks_of_all_its_meta_batches_are_left_out(
    tmp_path: Path,
) -> None:
    everything = range(4)
    poison = Poison(batches=[1, 3, 4, 5], tasks=everything)
    trainer = make_trainer(tmp_path, poison, accumulate_grad_batches=3)
    trainer.fit(make_model(optimizer=OPTIMIZERS["AdamW"]), make_data(9))
    states = poison.states
    assert len(states) == 4
    assert same(states[2], states[1])
    assert not same(states[1], states[0])
    assert not same(states[3], states[2])


def test_a_meta_batch_left_out_adds_nothing_to_the_step_it_belongs_to(tmp_path: Path) -> None:
    gradients = []

    class Keep(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            gradients.append(torch.cat([p.grad.flatten() for p in pl_module.parameters()]))

    poison = Poison(batches=[1], tasks=range(4))
    make_trainer(tmp_path, poison, Keep(), accumulate_grad_batches=2).fit(
        make_model(), make_data(2)
    )
    (wanted,), model = gradients, make_model().train()
    loader = make_data(2)
    loader.setup("fit")
    batch = next(iter(loader.train_dataloader())).episodes
    whole = torch.autograd.grad(model.score(batch)[0] / 2, list(model.parameters()))
    torch.testing.assert_close(torch.cat([g.flatten() for g in whole]), wanted)


def test_the_budget_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    poison = Poison(steps=range(100))
    with pytest.raises(ValueError, match=r"11 steps had no finite meta-gradient, step 10 the last"):
        make_trainer(tmp_path, poison).fit(make_model(), make_data(20))
    with pytest.raises(ValueError, match=r"^1 steps .* max_skipped_steps=0: lower lr") as caught:
        make_trainer(tmp_path, Poison(steps=[3])).fit(make_model(max_skipped_steps=0), make_data())
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="max_skipped_steps=-1 should be 0 or more"):
        make_model(max_skipped_steps=-1)


def test_ten_good_steps_make_up_for_one_that_was_skipped(tmp_path: Path) -> None:
    every_eleventh = range(0, 99, 11)
    model = make_model(max_skipped_steps=1)
    make_trainer(tmp_path, Poison(steps=every_eleventh)).fit(model, make_data(99))
    every_tenth = range(0, 99, 10)
    with pytest.raises(ValueError, match=r"2 steps had no finite meta-gradient, step 10 "):
        make_trainer(tmp_path, Poison(steps=every_tenth)).fit(
            make_model(max_skipped_steps=1), make_data(99)
        )


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_run_stops_at_the_step_of_the_uninterrupted_one(tmp_path: Path) -> None:
    steps = [1, 2, 6, 7, 12, 13]
    options: dict[str, Any] = {"max_skipped_steps": 4}

    def run(resume: Path | None) -> str:
        saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
        trainer = make_trainer(tmp_path, saver, Poison(steps=steps))
        with pytest.raises(ValueError, match="meta-gradient") as caught:
            trainer.fit(make_model(**options), make_data(30), ckpt_path=resume, weights_only=True)
        return str(caught.value)

    whole = run(None)
    assert "step 12 the last" in whole or "step 13 the last" in whole
    assert run(tmp_path / "step=5.ckpt") == run(tmp_path / "step=10.ckpt") == whole
    state = torch.load(tmp_path / "step=10.ckpt", weights_only=True)["guard"]
    assert state["skipped"] == 4


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("bad", [[2], [3], [2, 3]])
def test_a_run_resumed_in_the_middle_of_a_step_knows_the_tasks_of_its_first_half(
    bad: list[int], tmp_path: Path
) -> None:
    def run(folder: Path, stop: int | None = None, resume: Path | None = None) -> tuple[Any, Any]:
        poison, model = Poison(batches=bad, tasks=range(4)), make_model()
        saver, rows = LastCheckpoint(str(folder)), Rows()
        options = {"accumulate_grad_batches": 2, "enable_checkpointing": True}
        trainer = make_trainer(folder, poison, saver, logger=rows, **options)
        poison.stop_after = stop
        with suppress(SystemExit):
            trainer.fit(model, make_data(8), ckpt_path=resume, weights_only=True)
        return poison.states[max(poison.states)], model._guard.state_dict(model)

    weights, state = run(tmp_path / "whole")
    run(tmp_path, stop=3)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["guard"]
    assert (saved["step_masked"], saved["step_count"]) == (4 * (2 in bad), 4)
    resumed = run(tmp_path, resume=tmp_path / "last.ckpt")
    assert same(resumed[0], weights)
    assert resumed[1] == state


def test_a_checkpoint_from_before_there_were_guards_goes_on(tmp_path: Path) -> None:
    model, trainer = make_model(), make_trainer(tmp_path)
    trainer.fit(model, make_data(2))
    trainer.save_checkpoint(tmp_path / "old.ckpt")
    checkpoint = torch.load(tmp_path / "old.ckpt", weights_only=True)
    del checkpoint["guard"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    again = make_trainer(tmp_path, max_epochs=2)
    again.fit(make_model(), make_data(2), ckpt_path=tmp_path / "old.ckpt", weights_only=True)
    assert again.global_step == 4


def test_overflow_of_scaled_gradients_is_the_scalers_own_business(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1000)
    rows, poison = Rows(), Poison(batches=range(9), tasks=[])
    precision = MixedPrecision("16-mixed", "cpu", scaler)
    model = make_model(optimizer=OPTIMIZERS["AdamW"])

    def overflow(parameter: nn.Parameter) -> None:
        parameter.grad.fill_(torch.inf)

    next(model.parameters()).register_post_accumulate_grad_hook(overflow)
    trainer = make_trainer(tmp_path, poison, logger=rows, plugins=[precision])
    trainer.fit(model, make_data(5))
    # scaled by 4 and 2 it may be the scale; by 1 and less it is not
    assert rows.found("guard/skipped_steps") == [(2, 1), (3, 2), (4, 3)]
    assert scaler.get_scale() < 1
    assert same(poison.states[5][:4], list(make_model().state_dict().values()))


def test_a_step_without_tasks_is_skipped_beside_a_scaler(tmp_path: Path) -> None:
    rows, poison = Rows(), Poison(batches=[2], tasks=range(4))
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=4.0))
    trainer = make_trainer(tmp_path, poison, logger=rows, plugins=[precision])
    trainer.fit(make_model(optimizer=OPTIMIZERS["AdamW"]), make_data(5))
    assert rows.found("guard/skipped_steps") == [(2, 1)]
    assert same(poison.states[3], poison.states[2])
    assert not same(poison.states[4], poison.states[3])


def test_a_run_of_which_every_step_is_skipped_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^not one of 3 steps had a finite meta-gradient: lower"):
        make_trainer(tmp_path, Poison(steps=range(3))).fit(make_model(), make_data(3))


def test_the_state_of_the_guard_is_whole_numbers() -> None:
    guard = StepGuard(3)
    state = guard.state_dict(make_model())
    assert json.loads(json.dumps(state)) == state
    assert all(type(value) is int for value in state.values())


class Own(MetaLearner):
    """A training step that tells the guard nothing of its tasks."""

    def training_step(self, episodes: Episode, batch_idx: int) -> Tensor:
        return self.score(episodes)[0]


def test_a_training_step_of_ones_own_is_not_skipped(tmp_path: Path) -> None:
    poison, given = Poison(), make_model()
    model = Own(given.learner, given.loss, given.metric)
    make_trainer(tmp_path, poison).fit(model, make_data(2))
    assert not same(poison.states[2], poison.states[1])


def test_good_steps_are_not_saved_up_for_bad_ones_to_come(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 steps had no finite meta-gradient, step 31 the last"):
        make_trainer(tmp_path, Poison(steps=[30, 31])).fit(
            make_model(max_skipped_steps=1), make_data(32)
        )


def test_a_run_without_any_step_has_skipped_not_all_of_them() -> None:
    StepGuard(3).check_end(0)


def test_tasks_left_out_that_are_not_logged_yet_are_logged_after_a_resume(tmp_path: Path) -> None:
    for stop, resume in ((2, None), (None, tmp_path / "last.ckpt")):
        rows, poison = Rows(), Poison(batches=[1], tasks=[0, 3])
        poison.stop_after = stop
        options = {"logger": rows, "log_every_n_steps": 4, "enable_checkpointing": True}
        trainer = make_trainer(tmp_path, poison, LastCheckpoint(str(tmp_path)), **options)
        with suppress(SystemExit):
            trainer.fit(make_model(), make_data(), ckpt_path=resume, weights_only=True)
    assert rows.found("train/masked_tasks") == [(3, 2)]


def test_a_number_that_an_optimizer_begins_with_may_be_infinite() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.state[model.weight]["best_loss"] = torch.tensor(torch.inf)
    check_finite(model, [optimizer], "now")


def test_the_first_process_alone_warns(caplog: pytest.LogCaptureFixture) -> None:
    for first in (False, True):
        model: Any = SimpleNamespace(trainer=SimpleNamespace(is_global_zero=first))
        StepGuard(3).warn_once(model, "masked", f"first: {first}")
    assert caplog.messages == ["first: True"]
