"""A run that is stopped at any point goes on as if it had not been, whatever its schedule is."""

import signal
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch import nn

from metalit import EpisodeDataModule, MetaLearner
from metalit.callbacks import LastCheckpoint
from metalit.checkpoints import SafeCheckpointIO
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import MeanSquaredError
from metalit.tasks import SinusoidTasks

BATCHES = 6  # of an epoch
SCHEDULES = {
    "validation at epoch ends": {},
    "validation every third step": {"val_check_interval": 3},
    "validation every fourth step, over epochs": {
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
    },
    "validation every second epoch": {"check_val_every_n_epoch": 2},
    "no validation": {"limit_val_batches": 0},
    "accumulation": {"accumulate_grad_batches": 4},
    "accumulation and validation in between": {
        "accumulate_grad_batches": 2,
        "val_check_interval": 3,
    },
    "the end in the middle of an epoch": {"max_steps": 14},
}


class Thaw(BaseFinetuning):
    """Trains the first layer from the second epoch on."""

    def freeze_before_training(self, model):
        self.freeze(model.learner.network[0])

    def finetune_function(self, model, epoch, optimizer):
        if epoch == 1:
            self.make_trainable(model.learner.network[0])


CALLBACKS = {
    "an accumulation of each epoch": lambda: GradientAccumulationScheduler({0: 2, 1: 3, 2: 1}),
    "averaged weights": lambda: StochasticWeightAveraging(0.01, swa_epoch_start=1),
    "a moving average of the weights": lambda: EMAWeightAveraging(decay=0.9),
    "layers that thaw": Thaw,
}


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 1))


class Witness(Callback):
    """Writes down all that a run does, and asks it to stop at one of these events."""

    def __init__(self, keep, stop_at=None):
        self.keep, self.stop_at, self.events = keep, stop_at, []

    def see(self, trainer, name, *values):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.events.append((name, trainer.current_epoch, trainer.global_step, rate, *values))
        if len(self.events) - 1 == self.stop_at:
            self.keep._signals.received = signal.SIGTERM

    def on_train_epoch_start(self, trainer, model):
        self.see(trainer, "epoch starts")

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        episodes = batch.support.x.sum().item()
        self.see(trainer, "step", batch_idx, outputs["loss"].item(), episodes)

    def on_validation_start(self, trainer, model):
        self.see(trainer, "validation starts")

    def on_validation_batch_end(self, trainer, model, outputs, batch, batch_idx):
        self.see(trainer, "validation", batch_idx, outputs.item())

    def on_validation_end(self, trainer, model):
        self.see(trainer, "validation ends", trainer.callback_metrics["val/loss"].item())

    def on_train_epoch_end(self, trainer, model):
        self.see(trainer, "epoch ends")


def train(folder, options, stop_at=None, ckpt_path=None, more=()):
    """Train for three epochs; return the events, and the weights or the exit code."""
    torch.manual_seed(0)
    maml = MAML(Net(), GradientDescent(0.01), nn.MSELoss())
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=5, gamma=0.5)
    adam = partial(torch.optim.Adam, lr=0.01)
    model = MetaLearner(maml, nn.MSELoss(), MeanSquaredError(), adam, schedule)
    data = EpisodeDataModule(
        SinusoidTasks(5), meta_batch_size=2, episodes_per_epoch=2 * BATCHES, val_episodes=4
    )
    keep = LastCheckpoint(str(folder))
    witness = Witness(keep, stop_at)
    best = ModelCheckpoint(folder, "best", monitor="val/mean_squared_error")
    trainer = Trainer(
        **{"max_epochs": 3, "num_sanity_val_steps": 0, **options},
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            keep,
            *(make() for make in more),
            witness,
            *([] if "limit_val_batches" in options else [best]),
        ],
        plugins=[SafeCheckpointIO()],
        default_root_dir=folder,
    )
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit as left:
        return witness.events, left.code
    return witness.events, {**model.state_dict(), "best": best.best_model_score}


def kept_events(events):
    """Events that are not repeated: all, but a validation that was not finished."""
    done = list(events)
    while done and done[-1][0] in ("validation", "validation starts"):
        done.pop()
    return done


def stop_everywhere(options, folder, every, more=()):
    """Stop a run at every so-manieth event and at the first end of an epoch, and let it go on."""
    whole, weights = train(folder / "whole", options, more=more)
    assert isinstance(weights, dict)
    assert len(whole) > 2 * BATCHES
    resumed = 0
    epoch_end = [event[0] for event in whole].index("epoch ends")
    for stop_at in sorted({*range(every - 1, len(whole), every), epoch_end}):
        events, stopped = train(folder / str(stop_at), options, stop_at, more=more)
        assert events == whole[: len(events)]
        if stopped != 143:
            assert stop_at == len(whole) - 1  # asked after the last time that anyone looks
            continue
        file = folder / str(stop_at) / "last.ckpt"
        rest, after = train(folder / str(stop_at), options, ckpt_path=file, more=more)
        when = f"stopped after {events[-1]}"
        assert kept_events(events) + rest == whole, when
        # averages reach the model when training ends, and one that had ended does not train
        for key, value in weights.items() if rest or not more else ():
            assert value is None or torch.equal(value, after[key]), when
        resumed += 1
    return resumed


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_stopped_goes_on_as_if_it_had_not_been(name, tmp_path):
    assert stop_everywhere(SCHEDULES[name], tmp_path, every=5) > 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_stopped_at_any_event_goes_on_as_if_it_had_not_been(name, tmp_path):
    assert stop_everywhere(SCHEDULES[name], tmp_path, every=1) > 2 * BATCHES


@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:SWA is currently")
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_that_sets_epochs_up_goes_on_within_one(name, tmp_path):
    assert stop_everywhere({}, tmp_path, every=7, more=[CALLBACKS[name]]) > 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:SWA is currently")
@pytest.mark.parametrize("options", [{}, {"val_check_interval": 3}, {"max_steps": 14}])
@pytest.mark.parametrize("name", CALLBACKS)
def test_a_callback_that_sets_epochs_up_goes_on_from_any_event(name, options, tmp_path):
    assert stop_everywhere(options, tmp_path, every=1, more=[CALLBACKS[name]]) > BATCHES


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(
    ("schedule", "saved_at"),
    [("at epoch ends", "epoch ends"), ("every third step", "validation ends")],
)
def test_a_run_goes_on_from_a_checkpoint_made_after_a_validation_that_was_repeated(
    schedule, saved_at, tmp_path
):
    options = SCHEDULES[f"validation {schedule}"]
    whole, weights = train(tmp_path, options)
    names = [event[0] for event in whole]
    stop_at = names.index("validation")
    train(tmp_path / "x", options, stop_at)  # in the middle of the first validation
    until = {**options, "max_steps": whole[stop_at][2] + 1, "max_epochs": -1}
    train(tmp_path / "x", until, ckpt_path=tmp_path / "x" / "last.ckpt")
    rest, after = train(tmp_path / "x", options, ckpt_path=tmp_path / "x" / "best.ckpt")
    assert rest == whole[names.index(saved_at) + 1 :]
    assert all(torch.equal(value, after[key]) for key, value in weights.items())
