"""A `Trainer` of one's own refuses to go on with another model or other episodes, too."""

import logging
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim.lr_scheduler import StepLR

from metalit import EpisodeDataModule, MetaLearner
from metalit.callbacks import LastCheckpoint
from metalit.checkpoints import SafeCheckpointIO, refuse_another_model
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.main import main
from metalit.metrics import MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import SinusoidTasks

ADAM = partial(torch.optim.Adam, lr=0.01)
SCHEDULE = partial(StepLR, step_size=5)


def parts(network=None, steps=1, optimizer=ADAM, schedule=None, shot=5, **data):
    torch.manual_seed(0)
    maml = MAML(network or MLP(1, 8, 1), GradientDescent(0.01, steps=steps), nn.MSELoss())
    model = MetaLearner(maml, nn.MSELoss(), MeanSquaredError(), optimizer, schedule)
    numbers = {"meta_batch_size": 2, "episodes_per_epoch": 4, "val_episodes": 2, **data}
    return model, EpisodeDataModule(SinusoidTasks(shot), **numbers)


def fit(model, data, folder, epochs=2, ckpt_path=None, callbacks=None):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks or [LastCheckpoint(str(folder))],
        plugins=[SafeCheckpointIO()],
        default_root_dir=folder,
        enable_checkpointing=True,
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    fit(*parts(), folder, 1, callbacks=[LastCheckpoint(str(folder), "plain")])
    return folder / "plain.ckpt"


def test_an_unchanged_model_goes_on(checkpoint, tmp_path):
    trainer = fit(*parts(), tmp_path, ckpt_path=checkpoint)
    assert trainer.global_step == 4


@pytest.mark.parametrize("optimizer", [partial(ADAM, betas=(0.9, 0.999)), ADAM])
@pytest.mark.parametrize("schedule", [partial(SCHEDULE, gamma=0.1), SCHEDULE])
def test_defaults_may_be_spelt_out_or_not(optimizer, schedule, tmp_path, caplog):
    fit(*parts(schedule=SCHEDULE), tmp_path, 1)
    with caplog.at_level(logging.WARNING, "metalit"):
        fit(*parts(optimizer=optimizer, schedule=schedule), tmp_path, 2, tmp_path / "last.ckpt")
    assert [r.getMessage() for r in caplog.records if " in the checkpoint " in r.getMessage()] == []


class Cooled(MLP):
    """A network of which training changes what was an argument."""

    def __init__(self, temperature=2.0):
        super().__init__(1, 8, 1)
        self.temperature = temperature


class Cooling(Callback):
    def on_train_batch_end(self, trainer, model, *args):
        model.learner.network.temperature /= 2


def test_what_training_changes_is_no_other_model(tmp_path):
    for epochs, file in ((1, None), (2, tmp_path / "last.ckpt")):
        callbacks = [Cooling(), LastCheckpoint(str(tmp_path))]
        trainer = fit(*parts(Cooled()), tmp_path, epochs, file, callbacks)
    assert trainer.global_step == 4
    with pytest.raises(ValueError, match=r"model\.learner\.network\.temperature would change"):
        fit(*parts(Cooled(3.0)), tmp_path, 3, tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("then", "now"),
    [("__main__.Net", "mine.Net"), ("mine.Net", "__main__.Net"), ("mine.Net", "mine.Other")],
)
def test_a_class_of_a_script_is_the_same_where_it_is_imported(then, now):
    before, after = (
        {"class_path": "metalit.MetaLearner", "init_args": {"network": {"class_path": path}}}
        for path in (then, now)
    )
    saved = {"outline": before, "optimizer_states": []}
    optimizer = torch.optim.SGD([torch.ones(1)])
    if "__main__" in then + now:
        refuse_another_model(saved, after, False, optimizer)
    else:
        with pytest.raises(ValueError, match=r"model\.network would change the model"):
            refuse_another_model(saved, after, False, optimizer)


def test_another_inner_loop_is_refused_unless_it_may_be_another(checkpoint, tmp_path, caplog):
    model, data = parts(steps=2)
    with (
        caplog.at_level(logging.WARNING, "metalit"),
        pytest.raises(ValueError, match=r"model\.learner\.inner_loop\.steps would .*model_may_"),
    ):
        fit(model, data, tmp_path, ckpt_path=checkpoint)
    said = [record.getMessage() for record in caplog.records]
    assert "model.learner.inner_loop.steps is 1 in the checkpoint and 2 now." in said
    model.model_may_change = True
    assert fit(model, data, tmp_path, ckpt_path=checkpoint).global_step == 4


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"meta_batch_size": 4}, "meta_batch_size"),
        ({"seed": 1}, "seed"),
        ({"val_episodes": 4}, "val_episodes"),
        ({"shot": 4}, "tasks.shot"),
    ],
)
def test_other_episodes_are_refused_unless_they_may_be_others(changed, name, checkpoint, tmp_path):
    model, data = parts(**changed)
    with pytest.raises(ValueError, match=rf"data\.{name} would .* data_may_change"):
        fit(model, data, tmp_path, ckpt_path=checkpoint)
    data.data_may_change = True
    fit(model, data, tmp_path, ckpt_path=checkpoint)


def test_workers_and_test_episodes_may_be_others(checkpoint, tmp_path):
    fit(*parts(test_episodes=2, num_workers=1), tmp_path, ckpt_path=checkpoint)


@pytest.mark.parametrize("allowed", [False, True])
def test_the_optimizer_is_of_the_same_class(allowed, checkpoint, tmp_path):
    model, data = parts(optimizer=partial(torch.optim.SGD, lr=0.1))
    model.model_may_change = allowed
    with pytest.raises(ValueError, match=r"model\.optimizer cannot change its class"):
        fit(model, data, tmp_path, ckpt_path=checkpoint)


@pytest.mark.parametrize(
    ("given", "rate"), [(partial(ADAM, lr=0.5), 0.5), (torch.optim.Adam, 1e-3)]
)
def test_the_learning_rate_that_is_given_wins(given, rate, checkpoint, tmp_path):
    trainer = fit(*parts(optimizer=given), tmp_path, ckpt_path=checkpoint)
    assert trainer.optimizers[0].param_groups[0]["lr"] == rate


def test_a_learning_rate_that_a_schedule_sets_stays(tmp_path):
    fit(*parts(schedule=SCHEDULE), tmp_path, 1)
    changed = parts(schedule=SCHEDULE, optimizer=partial(ADAM, lr=0.5))
    with pytest.raises(ValueError, match=r"model\.optimizer\.lr cannot change"):
        fit(*changed, tmp_path, ckpt_path=tmp_path / "last.ckpt")


def test_what_cannot_be_described_is_not_compared_and_all_else_is(tmp_path):
    def network(between):
        return nn.Sequential(nn.Linear(1, 4), between, nn.Linear(4, 1))

    fit(*parts(network(nn.Tanh())), tmp_path, 1)
    with pytest.raises(ValueError, match=r"model\.learner\.inner_loop\.steps would"):
        fit(*parts(network(nn.ReLU()), steps=2), tmp_path, ckpt_path=tmp_path / "last.ckpt")
    fit(*parts(network(nn.ReLU())), tmp_path, ckpt_path=tmp_path / "last.ckpt")


def test_weights_alone_are_refused_in_python(tmp_path):
    best = ModelCheckpoint(tmp_path, "weights", save_weights_only=True)
    fit(*parts(), tmp_path, 1, callbacks=[best])
    with pytest.raises(ValueError, match=r"weights\.ckpt was saved with save_weights_only"):
        fit(*parts(), tmp_path, ckpt_path=tmp_path / "weights.ckpt")


def test_weights_alone_are_refused_on_the_command_line(sinusoids, tmp_path, last_line):
    arguments = ["fit", "--config", str(sinusoids)]
    main([*arguments, "--checkpoint.save_weights_only", "true"])
    main(["test", *arguments[1:], "--ckpt_path", "best"])
    said = last_line([*arguments, "--ckpt_path", "best"])
    assert "best.ckpt was saved with save_weights_only" in said
    assert "give last" in said
    assert len(list((tmp_path / "runs").iterdir())) == 1
