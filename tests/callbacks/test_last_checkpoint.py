import os
import pickle
import signal
import subprocess
import sys
import time
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from lightning import Callback, Trainer
from torch import distributed, nn
from torch.utils.data import DataLoader

from metalit import EpisodeDataModule, MetaLearner
from metalit.callbacks import LastCheckpoint
from metalit.checkpoints import SafeCheckpointIO, load_checkpoint
from metalit.checkpoints.progress import PROGRESS
from metalit.episodes import stack
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.main import main
from metalit.metrics import MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import SinusoidTasks

STOPPING = "--trainer.callbacks=stopping."
LAST = "runs/version_0/checkpoints/last.ckpt"


def steps(folder):
    """Outer steps of the last checkpoint and of the one before it."""
    files = folder / LAST, folder / LAST.replace("last", "last.previous")
    return [load_checkpoint(file)["global_step"] for file in files if file.is_file()]


@pytest.mark.parametrize("name", ["every_n_train_steps", "every_minutes"])
def test_an_interval_that_is_not_positive_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 should be positive, or null for none"):
        LastCheckpoint(**{name: 0})


def test_it_can_be_pickled_for_processes_that_are_spawned():
    assert pickle.loads(pickle.dumps(LastCheckpoint("here"))).dirpath == "here"


def test_by_default_it_is_saved_at_the_end_of_every_epoch(sinusoids, tmp_path):
    main(["fit", "--config", str(sinusoids), "--trainer.max_epochs", "3"])
    assert steps(tmp_path) == [18, 12]


def test_it_is_saved_every_so_many_steps_and_minutes(sinusoids, tmp_path):
    arguments = ["fit", "--config", str(sinusoids)]
    main([*arguments, "--last_checkpoint.every_n_train_steps", "4"])
    assert steps(tmp_path) == [6, 4]
    root = ["--trainer.default_root_dir", str(tmp_path / "other/runs")]
    main([*arguments, *root, "--last_checkpoint.every_minutes", "1e-9"])
    assert steps(tmp_path / "other") == [6, 6]  # before and after validation


def test_by_default_it_is_saved_five_minutes_after_the_last_time(sinusoids, tmp_path, monkeypatch):
    # that gains a minute whenever somebody looks at it, and many before the training begins
    clock = chain([0], count(10_000, 60))
    patched = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("metalit.callbacks.last_checkpoint.time", patched)
    main(["fit", "--config", str(sinusoids)])
    assert steps(tmp_path) == [6, 5]


def test_a_run_that_ends_in_the_middle_of_an_epoch_goes_on_in_the_middle(sinusoids, tmp_path):
    arguments = ["fit", "--config", str(sinusoids), "--trainer.max_epochs=-1"]
    main([*arguments, "--trainer.max_steps=10"])
    main([*arguments, "--trainer.max_steps=14", "--ckpt_path", "last"])
    root = ["--trainer.default_root_dir", str(tmp_path / "whole/runs")]
    main([*arguments, *root, "--trainer.max_steps=14"])
    one, other = (load_checkpoint(folder / LAST) for folder in (tmp_path, tmp_path / "whole"))
    assert one["global_step"] == other["global_step"] == 14
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name])


def test_auto_begins_a_run_where_there_is_none_and_goes_on_with_it_else(sinusoids, tmp_path):
    arguments = ["fit", "--config", str(sinusoids), "--ckpt_path", "auto", "--trainer.max_epochs"]
    main([*arguments, "1"])
    left = tmp_path / LAST.replace("last.ckpt", ".last.ckpt.4194305.writing")  # of no process
    left.touch()
    cli = main([*arguments, "2"])
    assert cli.trainer.global_step == 12
    assert not left.exists()
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["version_0"]


def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(sinusoids, tmp_path, capsys):
    arguments = ["fit", "--config", str(sinusoids)]
    main([*arguments, "--last_checkpoint.every_n_train_steps", "4"])
    content = bytearray((tmp_path / LAST).read_bytes())
    content[300] ^= 16
    (tmp_path / LAST).write_bytes(content)
    capsys.readouterr()
    main([*arguments, "--ckpt_path", "last"])
    said = capsys.readouterr().out
    assert "last.ckpt is no checkpoint, or a damaged one (its SHA-256 is another); its" in said
    assert "Going on with" in said
    assert "after step 4." in said
    assert steps(tmp_path) == [6, 4]
    assert (tmp_path / LAST.replace("last", "last.damaged")).read_bytes() == content


def test_a_checkpoint_holds_the_configuration_and_no_object(sinusoids, tmp_path):
    main(["fit", "--config", str(sinusoids)])
    held = load_checkpoint(tmp_path / LAST)["callbacks"]["RunConfig"]
    assert yaml.safe_load(held["config"])["data"]["init_args"]["meta_batch_size"] == 2
    assert held["rows"] == 6 + 1  # steps and a validation
    assert held["wandb"] is None


def test_a_full_disk_does_not_end_the_run_but_a_run_that_is_not_saved_is_an_error(
    sinusoids, tmp_path, capsys
):
    folder = tmp_path / "runs"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        options = ["--model.learner.network.hidden", "[300, 300]"]  # too much for that disk
        options += ["--checkpoint.dirpath", str(tmp_path)]
        with pytest.raises(OSError, match=r"last.ckpt could not be saved .*make room, and go on"):
            main(["fit", "--config", str(sinusoids), *options])
        rows = (folder / "version_0/metrics.csv").read_text().splitlines()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    said = capsys.readouterr().out
    assert "(No space left on device); there is none yet and the run goes on: make room." in said
    assert len(rows) == 1 + 6 + 1


@pytest.fixture
def trainer():
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


@pytest.fixture
def model():
    maml = MAML(MLP(1, 4, 1), GradientDescent(0.01), nn.MSELoss())
    return MetaLearner(maml, nn.MSELoss(), MeanSquaredError())


def test_a_step_of_several_meta_batches_is_saved_once(model, tmp_path):
    seen = []

    class Saved(Callback):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            seen.append(trainer.global_step)

    Trainer(
        accelerator="cpu",
        accumulate_grad_batches=2,
        callbacks=[Saved(), LastCheckpoint(str(tmp_path), every_n_train_steps=1)],
        enable_progress_bar=False,
        limit_val_batches=0,
        logger=False,
        max_epochs=1,
    ).fit(model, EpisodeDataModule(SinusoidTasks(3), meta_batch_size=2, episodes_per_epoch=12))
    assert seen == [1, 2, 3]


def test_a_last_checkpoint_that_fails_beside_the_end_is_an_error(trainer, tmp_path, monkeypatch):
    files = trainer.strategy.checkpoint_io = SafeCheckpointIO()
    files.save_checkpoint({"state_dict": {}}, tmp_path / "last.ckpt")

    def refuse(*_):
        time.sleep(0.05)
        raise OSError("not on this disk")

    monkeypatch.setattr(Path, "replace", refuse)
    files.save_checkpoint({"state_dict": {}}, tmp_path / "last.ckpt", {"wait": False})
    with pytest.raises(OSError, match=r"last.ckpt could not be saved \(not on this disk\)"):
        LastCheckpoint().on_fit_end(trainer, nn.Identity())


@pytest.mark.parametrize("mine", [None, signal.SIGTERM])
def test_what_one_of_two_processes_wants_both_do(mine, trainer, monkeypatch):
    theirs, keep = torch.tensor([signal.SIGTERM, 0]), LastCheckpoint()
    merged = {distributed.ReduceOp.MAX: torch.maximum, distributed.ReduceOp.SUM: torch.add}

    def all_reduce(wishes, operation):
        wishes.copy_(merged[operation](wishes, theirs))

    monkeypatch.setattr(distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(Trainer, "world_size", 2)
    keep._signals.received = mine
    with pytest.raises(SystemExit) as left:
        keep._leave_if_asked(trainer)
    assert left.value.code == 143
    keep._signals.received = None
    theirs[:] = torch.tensor([0, 1])  # minutes differ from process to process
    assert keep._leave_if_asked(trainer)
    theirs[:] = 0
    assert not keep._leave_if_asked(trainer)


def test_gradients_of_a_checkpoint_are_restored_once(trainer, model):
    keep = LastCheckpoint()
    gradients = {name: torch.ones_like(weight) for name, weight in model.named_parameters()}
    checkpoint = {PROGRESS: {"gradients": gradients, "metrics": {}}}
    keep.on_load_checkpoint(trainer, model, checkpoint)
    keep.on_train_start(trainer, model)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    model.zero_grad()
    keep.on_train_start(trainer, model)  # of another `fit`
    assert all(p.grad is None for p in model.parameters())


def test_a_prediction_leaves_too(trainer, model):
    seen = []

    class Asked(Callback):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append(batch_idx)
            os.kill(os.getpid(), signal.SIGTERM)

    trainer.callbacks += [Asked(), LastCheckpoint()]
    episodes = stack([SinusoidTasks(3, 4).sample(torch.Generator())])
    with pytest.raises(SystemExit) as left:
        trainer.predict(model, DataLoader([episodes, episodes], batch_size=None))
    assert left.value.code == 143
    assert seen == [0]


def test_leftovers_are_swept_wherever_a_checkpoint_is_saved(sinusoids, tmp_path):
    folder = tmp_path / "best"
    folder.mkdir()
    left, used, foreign = (
        folder / name
        for name in (
            ".best.ckpt.4194305.writing",  # no process has that number
            f".best.ckpt.{os.getppid()}.writing",  # of another run, which is about to save there
            ".notes.writing",
        )
    )
    for file in (left, used, foreign):
        file.touch()
    main(["fit", "--config", str(sinusoids), "--checkpoint.dirpath", str(folder)])
    assert {*folder.iterdir()} == {folder / "best.ckpt", used, foreign}


def contents(folder):
    """Checkpoints and rows of a run, byte for byte."""
    run = folder / "runs/version_0"
    files = (*(run / "checkpoints").iterdir(), run / "metrics.csv")
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (["--trainer.max_steps=4", "--trainer.val_check_interval=2"], "--trainer.max_steps=5"),
        (
            ["--trainer.max_time=01:00:00:00", STOPPING + "Deplete"],
            "--trainer.max_time=99:00:00:00",
        ),
    ],
    ids=["max_steps", "max_time"],
)
def test_a_run_that_ends_in_mid_epoch_keeps_its_last_validation(
    options, more, sinusoids, tmp_path, stopping
):
    arguments = ["fit", "--config", str(sinusoids), "--ckpt_path", "auto", *options]
    main(arguments)
    ended = contents(tmp_path)
    assert steps(tmp_path) == [4, 4]  # before and after validation
    assert main(arguments).trainer.global_step == 4
    assert contents(tmp_path) == ended
    assert main([*arguments, more]).trainer.global_step > 4


EARLY = "--trainer.callbacks={class_path: EarlyStopping, init_args: {monitor: val/loss, mode: max, "
EARLY += "min_delta: 1e9, patience: 2}}"  # two validations after the first


@pytest.mark.parametrize(("interval", "end"), [("1.0", 18), ("2", 6), ("4", 16)])
def test_a_run_that_a_callback_has_stopped_goes_on_when_callbacks_have_changed(
    interval, end, sinusoids, tmp_path, capsys
):
    arguments = ["fit", "--config", str(sinusoids), "--trainer.max_epochs=9", "--ckpt_path=auto"]
    arguments += [f"--trainer.val_check_interval={interval}"]
    assert main([*arguments, EARLY]).trainer.global_step == end
    ended = contents(tmp_path)
    for _ in range(2):
        capsys.readouterr()
        assert main([*arguments, EARLY]).trainer.global_step == end
        assert "Nothing is left to do: a callback had stopped the run" in capsys.readouterr().out
        assert contents(tmp_path) == ended
    rate = main([*arguments, EARLY, "--model.optimizer.lr=0.5"])
    assert rate.trainer.global_step > end
    end = rate.trainer.global_step
    assert main([*arguments, EARLY, "--model.optimizer.lr=0.5"]).trainer.global_step == end
    patient = EARLY.replace("patience: 2", "patience: 3")
    assert main([*arguments, patient]).trainer.global_step > end
    assert main([*arguments, "--trainer.callbacks=[]"]).trainer.global_step == 9 * 6


def test_a_callback_may_change_what_was_its_argument(sinusoids, tmp_path, stopping):
    arguments = ["fit", "--config", str(sinusoids), f"{STOPPING}Patient"]
    arguments += ["--trainer.max_epochs=4", "--ckpt_path=auto"]
    for _ in range(3):
        assert main(arguments).trainer.global_step == 6


def test_a_run_that_was_asked_to_stop_before_a_signal_stops_after_it(sinusoids, tmp_path, stopping):
    arguments = ["fit", "--config", str(sinusoids), f"{STOPPING}StopOnce"]
    arguments += ["--trainer.min_epochs=2", "--trainer.max_epochs=4", "--ckpt_path=auto"]
    with pytest.raises(SystemExit):
        main(arguments)
    assert steps(tmp_path) == [5]
    assert main(arguments).trainer.global_step == 12


@pytest.fixture
def stopping(tmp_path, monkeypatch):
    """A module with callbacks that end a run."""
    (tmp_path / "stopping.py").write_text(STOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stopping", raising=False)


def test_a_stop_that_has_to_wait_saves_no_more_and_hears_signals(sinusoids, tmp_path, stopping):
    with pytest.raises(SystemExit) as left:
        main(["fit", "--config", str(sinusoids), *STOP_OPTIONS])
    assert left.value.code == 143
    assert steps(tmp_path) == [9, 6]  # the signal, and the end of the first epoch


STOP = """
import os
import signal

from lightning.pytorch.callbacks import Callback, Timer


class Deplete(Callback):
    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == 3:
            timer = next(c for c in trainer.callbacks if isinstance(c, Timer))
            timer._offset = 1e6  # seconds


class Patient(Callback):
    def __init__(self, patience=1):
        self.patience = patience

    def on_train_epoch_end(self, trainer, *_):
        self.patience -= 1
        trainer.should_stop |= self.patience <= 0


class StopOnce(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            trainer.should_stop = True
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


class Stop(Callback):
    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = True
        if trainer.global_step == 9:
            os.kill(os.getpid(), signal.SIGTERM)
"""
STOP_OPTIONS = ["--trainer.min_epochs=3", "--trainer.max_epochs=4"]
STOP_OPTIONS += [f"{STOPPING}Stop"]
