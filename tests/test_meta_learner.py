import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from metalit import Episode, EpisodeDataModule, MetaLearner, Samples
from metalit.data import EpisodeDataset
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML, Learner
from metalit.metrics import Accuracy, MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import OutlierTasks, SinusoidTasks, TaskDistribution


def make_model(network: nn.Module | None = None, **arguments: Any) -> MetaLearner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = network or MLP(1, [8], 1)
    maml = MAML(network, GradientDescent(lr=0.01, steps=2), nn.MSELoss())
    return MetaLearner(maml, nn.MSELoss(), MeanSquaredError(), **arguments)


def make_data(tasks: TaskDistribution | None = None, **arguments: Any) -> EpisodeDataModule:
    given = {
        "tasks": tasks or SinusoidTasks(3, 4),
        "meta_batch_size": 2,
        "episodes_per_epoch": 8,
        "val_episodes": 5,
        "test_episodes": 7,
        **arguments,
    }
    return EpisodeDataModule(**given)


def make_trainer(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    given = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **arguments,
    }
    return Trainer(default_root_dir=folder, callbacks=list(callbacks), **given)


def make_batch(*numbers: int, tasks: TaskDistribution | None = None) -> Episode:
    dataset = EpisodeDataset(tasks or SinusoidTasks(3, 4), 0, "test", 8)
    return dataset.meta_batch(numbers).episodes


class Losses(Callback):
    """Keeps the loss of every training step."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.values.append(outputs["loss"].clone())


def test_the_answers_to_a_meta_batch_are_those_to_each_episode() -> None:
    model, batch = make_model(), make_batch(0, 1, 2)
    outputs = model(batch)
    assert outputs.shape == (3, 4, 1)
    for b in range(3):
        support = Samples(batch.support.x[b], batch.support.y[b])
        assert torch.equal(outputs[b], model.learner(support, batch.query.x[b]))


def test_the_score_is_the_mean_loss_and_the_metric_of_every_episode() -> None:
    model, batch = make_model(), make_batch(0, 1, 2)
    loss, values = model.score(batch)
    errors = (model(batch) - batch.query.y).square().mean((1, 2))
    torch.testing.assert_close(loss, errors.mean())
    torch.testing.assert_close(values, errors.detach())
    assert loss.requires_grad
    assert not model.eval().score(batch)[0].requires_grad


def test_validation_and_test_report_mean_and_interval_over_all_episodes(tmp_path: Path) -> None:
    model, trainer = make_model(), make_trainer(tmp_path)
    for run, stage, count in ((trainer.validate, "val", 5), (trainer.test, "test", 7)):
        (logged,) = run(model, make_data(), verbose=False)
        dataset = EpisodeDataset(SinusoidTasks(3, 4), 0, stage, count)
        batch = dataset.meta_batch(range(count)).episodes
        loss, values = model.eval().score(batch)
        name = f"{stage}/mean_squared_error"
        assert set(logged) == {f"{stage}/loss", name, f"{name}_ci95"}
        assert logged[name] == pytest.approx(values.mean().item(), rel=1e-5)
        interval = 1.96 * values.std().item() / math.sqrt(count)
        assert logged[f"{name}_ci95"] == pytest.approx(interval, rel=1e-5)
        assert logged[f"{stage}/loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_a_second_validation_starts_from_no_episodes(tmp_path: Path) -> None:
    model, trainer = make_model(), make_trainer(tmp_path)
    assert trainer.validate(model, make_data(), verbose=False) == trainer.validate(
        model, make_data(), verbose=False
    )


def test_training_logs_loss_and_metric_and_lowers_the_loss(tmp_path: Path) -> None:
    model = make_model(optimizer=partial(torch.optim.Adam, lr=0.01))
    data = make_data(episodes_per_epoch=200)
    trainer = make_trainer(tmp_path)
    (before,) = trainer.validate(model, data, verbose=False)
    trainer.fit(model, data)
    assert {"train/loss", "train/mean_squared_error"} <= set(trainer.logged_metrics)
    (after,) = trainer.validate(model, data, verbose=False)
    assert after["val/loss"] < 0.8 * before["val/loss"]


class AutogradLearner(Learner):
    """Adapts by backpropagation through `torch.autograd`, as much of the field's code does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1))

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        with torch.enable_grad():
            loss = (support.x @ self.weight - support.y).square().mean()
            (gradient,) = torch.autograd.grad(loss, self.weight, create_graph=self.training)
        return query @ (self.weight - 0.01 * gradient)


def test_learners_can_take_gradients_while_the_trainer_evaluates(tmp_path: Path) -> None:
    model = MetaLearner(AutogradLearner(), nn.MSELoss(), MeanSquaredError())
    (logged,) = make_trainer(tmp_path).test(model, make_data(), verbose=False)
    dataset = EpisodeDataset(SinusoidTasks(3, 4), 0, "test", 7)
    batch = dataset.meta_batch(range(7)).episodes
    assert logged["test/loss"] == pytest.approx(model.eval().score(batch)[0].item(), rel=1e-5)
    with torch.inference_mode():
        made_here = make_batch(0, 1)
        found = model.predict_step(made_here, 0)
    assert torch.equal(found, model(make_batch(0, 1)))


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_episodes_that_do_not_fit_end_every_stage_at_its_first_batch(
    tmp_path: Path, stage: str
) -> None:
    model, losses = make_model(MLP(1, [8], 2)), Losses()
    trainer = make_trainer(tmp_path, losses, num_sanity_val_steps=0)
    with pytest.raises(ValueError, match="returns 2 outputs but the targets of the episode"):
        getattr(trainer, stage)(model, make_data())
    assert not losses.values


def test_predictions_are_the_answers_and_episodes_that_do_not_fit_are_refused() -> None:
    model, batch = make_model().eval(), make_batch(0, 1)
    with torch.inference_mode():
        found = model.predict_step(batch, 0)
    assert torch.equal(found, model(batch))
    with pytest.raises(ValueError, match="returns 2 outputs"):
        make_model(MLP(1, [8], 2)).predict_step(batch, 0)


def test_a_learner_that_cannot_be_trained_is_named(tmp_path: Path) -> None:
    model = make_model(MLP(1, [8], 1).requires_grad_(False))
    with pytest.raises(
        ValueError, match=r"^model\.learner is MAML, whose loss depends on no weight"
    ):
        make_trainer(tmp_path).fit(model, make_data())


def test_a_schedule_advances_after_every_outer_step(tmp_path: Path) -> None:
    optimizer = partial(torch.optim.SGD, lr=1e-4)
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    model = make_model(optimizer=optimizer, lr_scheduler=schedule)
    trainer = make_trainer(tmp_path)
    trainer.fit(model, make_data())  # 4 steps
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4 / 2**4)


class NoisyLearner(Learner):
    """Draws from torch's global generator, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.drawn: list[Tensor] = []

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        noise = torch.rand_like(query)
        self.drawn += [noise] if self.training else []
        return self.weight * noise


def fit_noisy(folder: Path, **arguments: Any) -> list[Tensor]:
    learner = NoisyLearner()
    model = MetaLearner(learner, nn.MSELoss(), MeanSquaredError(), **arguments)
    make_trainer(folder).fit(model, make_data())
    return learner.drawn


def test_what_is_random_in_the_model_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = fit_noisy(tmp_path, seed=5)
    assert len(torch.stack(first).unique(dim=0)) == len(first) == 8
    torch.manual_seed(2)
    assert all(map(torch.equal, first, fit_noisy(tmp_path, seed=5)))
    assert not any(map(torch.equal, first, fit_noisy(tmp_path, seed=6)))


def fit_with_dropout(folder: Path, checkpoint: Path | None = None) -> list[Tensor]:
    """Train 2 epochs of 4 steps, with a checkpoint after every 3 steps."""
    torch.manual_seed(0 if checkpoint is None else 1)  # a new process has another random state
    network = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
    losses = Losses()
    saver = ModelCheckpoint(folder, "{step}", every_n_train_steps=3, save_top_k=-1)
    trainer = make_trainer(folder, losses, saver, max_epochs=2)
    trainer.fit(make_model(network), make_data(), ckpt_path=checkpoint, weights_only=True)
    return losses.values


# a resumed run goes on in its own folder
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("step", [3, 6])
def test_every_loss_after_a_resume_is_bit_equal_to_the_uninterrupted_run(
    tmp_path: Path, step: int
) -> None:
    whole = fit_with_dropout(tmp_path)
    resumed = fit_with_dropout(tmp_path, tmp_path / f"step={step}.ckpt")
    assert len(whole) == 8
    assert len(resumed) == 8 - step
    assert all(map(torch.equal, resumed, whole[step:]))


def fitted_checkpoint(model: MetaLearner, folder: Path) -> Path:
    trainer = make_trainer(folder)
    trainer.fit(model, make_data(episodes_per_epoch=2))
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def test_a_checkpoint_is_loaded_without_any_other_argument(tmp_path: Path) -> None:
    model = make_model(optimizer=partial(torch.optim.Adam, lr=0.01), seed=3)
    loaded = MetaLearner.load_from_checkpoint(fitted_checkpoint(model, tmp_path))
    assert loaded.description() == model.description()
    assert set(loaded.description()) == {
        *(
            "learner",
            "loss",
            "metric",
            "optimizer",
            "lr_scheduler",
            "seed",
            "tasks",
            "chunk",
            "compiled",
            "max_skipped_steps",
        )
    }
    batch = make_batch(0, 1)
    assert torch.equal(loaded.eval()(batch), model.eval()(batch))


def test_an_argument_given_to_load_from_checkpoint_replaces_the_saved_one(tmp_path: Path) -> None:
    path = fitted_checkpoint(make_model(), tmp_path)
    assert MetaLearner.load_from_checkpoint(path, seed=7).seed == 7


def test_a_checkpoint_that_cannot_say_how_its_learner_was_made_names_it(tmp_path: Path) -> None:
    class LocalNetwork(nn.Linear):
        """Not importable, since it is defined in a function."""

    for network in (LocalNetwork(1, 1), nn.Sequential(nn.Linear(1, 1))):
        model, again = make_model(copy.deepcopy(network)), make_model(network)
        path = fitted_checkpoint(model, tmp_path)
        message = r"does not say how its learner was made: pass learner="
        with pytest.raises(ValueError, match=message):
            MetaLearner.load_from_checkpoint(path)
        loaded = MetaLearner.load_from_checkpoint(path, learner=again.learner)
        assert torch.equal(loaded(make_batch(0)), model(make_batch(0)))


@pytest.mark.parametrize(
    "make", [lambda: SinusoidTasks(3, 4), lambda: OutlierTasks(8, 8, 2, contamination=0.25)]
)
def test_the_tuple_that_the_data_module_yields_is_the_tuple_that_is_scored(
    make: Callable[[], TaskDistribution],
) -> None:
    tasks = make()
    batch = make_batch(0, 1, tasks=tasks)
    features = batch.support.x.shape[-1]
    inner = nn.MSELoss() if batch.support.y.is_floating_point() else nn.CrossEntropyLoss()
    outputs = 1 if batch.support.y.is_floating_point() else 2
    metric = MeanSquaredError() if outputs == 1 else Accuracy()
    model = MetaLearner(
        MAML(nn.Linear(features, outputs), GradientDescent(0.1), inner), inner, metric
    )
    assert model.score(batch)[1].shape == (2,)
