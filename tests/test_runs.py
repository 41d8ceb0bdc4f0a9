import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from metalit.main import main
from metalit.messages import explain
from metalit.runs import (
    cut_metrics,
    find_checkpoint,
    new_run,
    read_rows,
    run_of,
    save_config,
    write_rows,
    write_whole,
)

FILES = ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "metrics.csv"]


def files(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_run_leaves_exactly_its_config_metrics_and_two_checkpoints(sinusoids, tmp_path, capsys):
    main(["fit", "--config", str(sinusoids)])
    assert files(tmp_path / "runs") == [f"version_0/{name}" for name in FILES]
    said = capsys.readouterr().out
    assert f"run folder        {tmp_path / 'runs' / 'version_0'}\n" in said
    for command in ("test", "predict", "fit"):
        assert f"python -m metalit {command} " in said


def test_the_checkpoint_last_is_of_the_last_epoch_even_where_the_best_is_older(sinusoids, tmp_path):
    # the error falls, so that the highest is the first
    odd = ["--checkpoint.mode", "max", "--model.optimizer.lr", "0.01"]
    cli = main(["fit", "--config", str(sinusoids), "--trainer.max_epochs", "3", *odd])
    assert cli.trainer.global_step == 18
    steps = {
        name: cli_checkpoint(tmp_path / f"runs/version_0/checkpoints/{name}.ckpt")
        for name in ("best", "last")
    }
    assert steps == {"best": 6, "last": 18}


@pytest.mark.filterwarnings("ignore:.trainer.fit. stopped")
def test_a_run_with_nothing_left_to_do_says_so(sinusoids, capsys):
    arguments = ["fit", "--config", str(sinusoids)]
    main(arguments)
    main([*arguments, "--ckpt_path", "last", "--trainer.max_steps", "0"])
    assert "best checkpoint" in capsys.readouterr().out


def test_a_diverged_run_ends_with_its_reason_and_not_with_a_best_checkpoint(sinusoids, tmp_path):
    lost = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "1e30"]
    with pytest.raises(ValueError, match=r"the val loss of 4 of 4 episodes is nan or inf"):
        main(["fit", "--config", str(sinusoids), *lost])
    assert not list(tmp_path.rglob("*.ckpt"))


def cli_checkpoint(file):
    from metalit.checkpoints import load_checkpoint

    return load_checkpoint(str(file))["global_step"]


def test_test_and_validate_write_beside_the_files_of_fit_and_change_none(sinusoids, tmp_path):
    main(["fit", "--config", str(sinusoids)])
    run = tmp_path / "runs" / "version_0"
    before = {name: (run / name).read_bytes() for name in FILES}
    for command in ("test", "validate", "test"):
        main([command, "--config", str(sinusoids), "--ckpt_path", "best"])
    added = ["test.csv", "test.yaml", "validate.csv", "validate.yaml"]
    assert files(tmp_path / "runs") == sorted(f"version_0/{name}" for name in [*FILES, *added])
    assert {name: (run / name).read_bytes() for name in FILES} == before
    names, rows = read_rows(run / "test.csv")
    assert len(rows) == 1
    assert {"test/loss", "test/mean_squared_error"} < set(names)
    assert yaml.safe_load((run / "test.yaml").read_text())["ckpt_path"].endswith("best.ckpt")


def test_a_resumed_fit_keeps_the_first_config_and_writes_a_changed_one_beside_it(
    sinusoids, tmp_path
):
    arguments = ["fit", "--config", str(sinusoids)]
    main(arguments)
    run = tmp_path / "runs" / "version_0"
    first = (run / "config.yaml").read_bytes()
    main([*arguments, "--ckpt_path", "last"])
    assert not (run / "config.1.yaml").exists()
    main([*arguments, "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    assert (run / "config.yaml").read_bytes() == first
    assert yaml.safe_load((run / "config.1.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["version_0"]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_fit_from_best_or_from_a_file_starts_a_new_folder(sinusoids, tmp_path):
    arguments = ["fit", "--config", str(sinusoids)]
    main(arguments)
    main([*arguments, "--ckpt_path", "best", "--trainer.max_epochs", "2"])
    file = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    main([*arguments, "--ckpt_path", str(file), "--trainer.max_epochs", "2"])
    folders = sorted(folder.name for folder in (tmp_path / "runs").iterdir())
    assert folders == ["version_0", "version_1", "version_2"]


def test_a_run_without_loggers_still_has_its_folder(sinusoids, tmp_path):
    main(["fit", "--config", str(sinusoids), "--trainer.logger", "false"])
    assert files(tmp_path / "runs") == [f"version_0/{name}" for name in FILES[:3]]


def test_a_fast_dev_run_leaves_nothing(sinusoids, tmp_path):
    main(["fit", "--config", str(sinusoids), "--trainer.fast_dev_run", "true"])
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_before_it_begins_leaves_no_folder(sinusoids, tmp_path):
    wrong = ["--model.learner.network.in_features", "2"]
    with pytest.raises(ValueError, match="MLP cannot take"):
        main(["fit", "--config", str(sinusoids), *wrong])
    wrong = ["--data.tasks.shot", "0"]
    with pytest.raises(ValueError, match="shot=0"):
        main(["fit", "--config", str(sinusoids), *wrong])
    assert not (tmp_path / "runs" / "version_1").exists()


def test_runs_are_numbered_after_the_highest(tmp_path):
    for name in ("version_3", "version_10", "version_x", "other"):
        (tmp_path / name).mkdir()
    assert new_run(tmp_path).name == "version_11"


def test_a_number_that_another_process_has_taken_meanwhile_is_left_to_it(tmp_path, monkeypatch):
    (tmp_path / "version_0").mkdir()
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))  # as it was before
    assert new_run(tmp_path).name == "version_1"


def test_last_is_of_the_run_with_the_highest_number(tmp_path, monkeypatch):
    for number in (2, 10):
        (tmp_path / f"version_{number}" / "checkpoints").mkdir(parents=True)
        (tmp_path / f"version_{number}" / "checkpoints" / "last.ckpt").touch()
    found = find_checkpoint(tmp_path, "last")
    assert found == tmp_path / "version_10" / "checkpoints" / "last.ckpt"
    assert run_of(found) == tmp_path / "version_10"
    monkeypatch.chdir(tmp_path / "version_10")
    assert run_of(Path("checkpoints/last.ckpt")) == tmp_path / "version_10"
    for other in ("last.ckpt", "version_2/mine/last.ckpt", "mine/checkpoints/last.ckpt"):
        assert run_of(tmp_path / other) is None
    found.rename(found.with_stem("last.previous"))  # a kill between two names, without links
    assert find_checkpoint(tmp_path, "last") == found.with_stem("last.previous")
    assert find_checkpoint(tmp_path, "auto") == found.with_stem("last.previous")


def test_auto_does_not_go_back_to_an_older_run_than_the_newest(tmp_path):
    assert find_checkpoint(tmp_path, "auto") is None
    (tmp_path / "version_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "version_0" / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "version_1" / "checkpoints").mkdir(parents=True)
    assert find_checkpoint(tmp_path, "auto") is None


def test_a_table_that_cannot_be_written_stays_as_it_was(tmp_path):
    def rows():
        yield {"step": "0"}
        raise OSError("No space left on device")

    file = tmp_path / "metrics.csv"
    write_rows(file, ["step"], [{"step": "7"}])
    with pytest.raises(OSError, match="No space"):
        write_rows(file, ["step", "train/loss"], rows())
    assert file.read_text().split() == ["step", "7"]


def test_rows_from_the_step_of_the_checkpoint_on_and_a_torn_row_are_dropped(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/loss\n0,1.5\n1,0.1\n2,3.0\n1")
    cut_metrics(file, 2)
    assert file.read_text().split() == ["step,train/loss", "0,1.5", "1,0.1"]
    assert (tmp_path / "metrics.1.csv").read_text().endswith("2,3.0\n1")
    cut_metrics(file, 2)
    assert sorted(os.listdir(tmp_path)) == ["metrics.1.csv", "metrics.csv"]


def test_a_file_of_which_no_row_is_dropped_is_left_alone(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/loss\n0,1.5\n1,0.1\n")
    before = file.stat()
    cut_metrics(file, 2, 2)
    assert os.path.samestat(file.stat(), before)  # on a full disk it could not be written anew
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_rows_that_a_checkpoint_knows_and_the_file_lacks_are_warned_of(tmp_path, caplog):
    file = tmp_path / "metrics.csv"
    cut_metrics(file, 2, 0)
    file.write_text("step,train/loss\n0,1.5\n1,0.1\n2,3.")
    cut_metrics(file, 2, 2)
    assert caplog.messages == []
    cut_metrics(file, 2, 5)
    assert file.read_text().split() == ["step,train/loss", "0,1.5", "1,0.1"]
    file.unlink()
    cut_metrics(file, 2, 1)
    assert not file.exists()
    assert caplog.messages == [
        f"{file} has {kept} of the {count} rows that the checkpoint counts: the others never "
        "reached the disk, or were cut since."
        for kept, count in ((2, 5), (0, 1))
    ]


def test_rows_that_a_checkpoint_does_not_know_are_dropped_whatever_step_they_are_of(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/loss\n0,1.5\n1,0.1\n")
    cut_metrics(file, 2, 1)
    assert file.read_text().split() == ["step,train/loss", "0,1.5"]


def test_equal_configs_are_written_once(tmp_path):
    file = tmp_path / "config.yaml"
    for text in ("a: 1\n", "a: 1\nckpt_path: x\n", "a: 2\n", "a: 2\n", "a: 3\n"):
        save_config(file, text)
    assert sorted(os.listdir(tmp_path)) == ["config.1.yaml", "config.2.yaml", "config.yaml"]


@pytest.mark.parametrize("damage", ["", "a: [1", "- 1", "a: 1\nb", "\0"])
def test_a_damaged_config_is_another_one(tmp_path, damage):
    file = tmp_path / "config.yaml"
    file.write_text(damage)
    for _ in range(2):
        save_config(file, "a: 1\n")
    assert sorted(os.listdir(tmp_path)) == ["config.1.yaml", "config.yaml"]
    assert file.read_text() == damage


@pytest.mark.parametrize("stage", ["write", "fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, stage):
    file = tmp_path / "config.yaml"
    file.write_text("a: 1\n")

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    owner, name = {"fsync": (os, "fsync"), "replace": (Path, "replace")}.get(stage, (Path, "open"))
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="No space left") as failed:
        write_whole(file, "a: 2\n")
    monkeypatch.undo()
    assert explain(failed.value) == f"{file} cannot be used (no space left on device): make room."
    assert file.read_text() == "a: 1\n"
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_other_commands_do_not_hide_the_run_that_is_gone_on_with(sinusoids, tmp_path, capsys):
    arguments = ["fit", "--config", str(sinusoids), "--ckpt_path", "auto", "--trainer.max_epochs"]
    main([*arguments, "1"])
    assert "There is nothing to go on with in " in capsys.readouterr().out
    main(["validate", "--config", str(sinusoids)])
    assert (tmp_path / "runs/version_1/validate.csv").exists()
    assert main([*arguments, "2"]).trainer.global_step == 12
    assert not (tmp_path / "runs/version_2").exists()
    (tmp_path / "runs/version_2").mkdir()
    (tmp_path / "runs/version_2/.lock").touch()  # killed before it could save
    assert find_checkpoint(tmp_path / "runs", "auto") is None


@pytest.mark.parametrize("option", ["dirpath", "filename"])
def test_last_is_where_it_is_found(sinusoids, tmp_path, option):
    with pytest.raises(ValueError, match=rf"^last_checkpoint\.{option} is 'other' but --ckpt_path"):
        main(["fit", "--config", str(sinusoids), f"--last_checkpoint.{option}", "other"])
    assert not (tmp_path / "runs").exists() or not os.listdir(tmp_path / "runs")


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_scores_are_shown_where_nothing_can_be_written(sinusoids, tmp_path, capsys):
    main(["fit", "--config", str(sinusoids)])
    run = tmp_path / "runs/version_0"
    command = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path / "disk")]
    (tmp_path / "disk").mkdir()
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a disk needs root")
    try:
        disk = shutil.copytree(tmp_path / "runs", tmp_path / "disk" / "runs") / "version_0"
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        options = ["--trainer.default_root_dir", str(disk.parent), "--ckpt_path", "best"]
        with pytest.warns(UserWarning, match=r"test\.csv") as told:
            main(["test", "--config", str(sinusoids), *options])
        assert files(disk) == files(run)
        assert any("test.csv cannot be written (Read-only" in str(w.message) for w in told)
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)
    said = capsys.readouterr().out
    assert "test/mean_squared_error" in said
    assert f"{disk / 'test.yaml'} cannot be written (Read-only file system): make room." in said


def test_last_does_not_go_back_to_an_older_run_than_the_newest(tmp_path):
    (tmp_path / "version_0" / "checkpoints").mkdir(parents=True)
    for name in ("best", "last"):
        (tmp_path / "version_0" / "checkpoints" / f"{name}.ckpt").touch()
    (tmp_path / "version_1" / "checkpoints").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"the newest run .*version_1' has no checkpoint"):
        find_checkpoint(tmp_path, "last")
    assert find_checkpoint(tmp_path, "best").parent.parent.name == "version_0"
