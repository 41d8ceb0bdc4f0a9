import re

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from metalit.checkpoints.best import restore_best
from metalit.main import main

WORSE = ["--checkpoint.mode", "max"]  # of an error that falls: the first model stays the best


@pytest.fixture
def two_epochs(sinusoids, tmp_path):
    """Arguments that go on with a run of two epochs, whose best model is the first."""
    arguments = ["fit", "--config", str(sinusoids), "--trainer.max_epochs"]
    main([*arguments, "2", *WORSE])
    assert step_of(tmp_path / "runs/version_0/checkpoints/best.ckpt") == 6
    return [*arguments, "3", "--ckpt_path", "last"]


def step_of(file):
    return torch.load(file, weights_only=True)["global_step"]


@pytest.mark.parametrize("how", ["moved", "linked"])
def test_the_best_checkpoint_stays_where_the_run_folder_has_another_path(how, two_epochs, tmp_path):
    runs, other = tmp_path / "runs", tmp_path / "other"
    {
        "moved": lambda: runs.rename(other),
        "linked": lambda: other.symlink_to(runs),
    }[how]()
    cli = main([*two_epochs, *WORSE, "--trainer.default_root_dir", str(other)])
    best = other / "version_0/checkpoints/best.ckpt"
    assert step_of(best) == 6
    assert cli.trainer.checkpoint_callback.best_model_path == str(best)
    assert len(list(best.parent.iterdir())) == 3  # and last, with its predecessor


@pytest.mark.parametrize(
    "interval",
    [
        ["--checkpoint.every_n_train_steps", "6"],
        ["--checkpoint.train_time_interval", "0:30:0"],
    ],
)
def test_the_best_checkpoint_stays_where_its_interval_changes(
    interval, two_epochs, tmp_path, capsys
):
    cli = main([*two_epochs, *WORSE, *interval])
    assert step_of(tmp_path / "runs/version_0/checkpoints/best.ckpt") == 6
    assert cli.trainer.checkpoint_callback.best_model_score is not None
    assert "Please add the following callbacks" not in capsys.readouterr().err


@pytest.mark.parametrize("other", [["mode", "min"], ["monitor", "val/loss"]])
def test_the_best_by_another_measure_is_kept_under_another_name(
    other, two_epochs, tmp_path, capsys
):
    folder = tmp_path / "runs/version_0/checkpoints"
    main([*two_epochs, *WORSE, f"--checkpoint.{other[0]}", other[1]])
    assert step_of(folder / "best.1.ckpt") == 6
    assert step_of(folder / "best.ckpt") == 18
    said = capsys.readouterr()
    assert said.out.count("best.ckpt is the best by what was monitored so far: it is kept") == 1
    assert "Please add the following callbacks" not in said.err


def test_a_new_run_from_a_checkpoint_finds_its_best_for_itself(two_epochs, tmp_path, capsys):
    main([*two_epochs[:-1], "best", *WORSE])
    folder = tmp_path / "runs/version_1/checkpoints"
    assert step_of(folder / "best.ckpt") == 12
    assert step_of(tmp_path / "runs/version_0/checkpoints/best.ckpt") == 6
    assert "dirpath has changed" not in capsys.readouterr().err


def state(folder, *best):
    return {
        "dirpath": str(folder),
        "best_model_path": best[0],
        "kth_best_model_path": best[-1],
        "last_model_path": "",
        "best_k_models": {path: torch.tensor(1.0) for path in best},
    }


def trainer_of(*callbacks):
    return Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks))


def test_paths_outside_of_the_folder_that_has_moved_stay_as_they_are(tmp_path):
    (tmp_path / "best.ckpt").touch()
    callback = ModelCheckpoint(tmp_path, monitor="x")
    paths = ["/old/best.ckpt", "/old/../etc/y.ckpt", "/other/z.ckpt"]
    states = {callback.state_key: state("/old", *paths)}
    restore_best(trainer_of(callback), states)
    moved = [str(tmp_path / "best.ckpt"), *paths[1:]]
    assert list(states[callback.state_key]["best_k_models"]) == moved
    assert states[callback.state_key]["kth_best_model_path"] == paths[-1]


def test_a_checkpoint_callback_of_ones_own_keeps_its_state(tmp_path):
    callback = ModelCheckpoint(tmp_path)
    states = {callback.state_key: {"mine": 1}}
    restore_best(trainer_of(callback), states)
    assert states == {callback.state_key: {"mine": 1}}


def test_each_of_two_checkpoints_gets_the_state_of_its_own(tmp_path):
    kept, changed = (
        ModelCheckpoint(tmp_path, monitor="x", every_n_train_steps=every) for every in (2, 3)
    )
    before = re.sub("3", "5", changed.state_key)
    states = {kept.state_key: state(tmp_path, "kept"), before: state(tmp_path, "changed")}
    restore_best(trainer_of(changed, kept), states)
    found = [states[each.state_key]["best_model_path"] for each in (kept, changed)]
    assert found == ["kept", "changed"]
    assert len(states) == 2
