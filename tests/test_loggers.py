import os
import resource
import time
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from lightning.pytorch.utilities import rank_zero_only

from metalit.loggers import CSV, WandB, csv_file, logged_in
from metalit.main import main
from metalit.runs import read_rows


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))


def ids(folder):
    return [name.rpartition("-")[2] for name in os.listdir(folder / "wandb") if "run-2" in name]


def test_every_row_is_in_the_file_at_once_and_new_columns_are_added(tmp_path):
    logger = CSV(str(tmp_path))
    logger.log_metrics({"train/loss": 0.1, "epoch": 0}, step=0)
    assert (tmp_path / "metrics.csv").read_text().split() == ["epoch,step,train/loss", "0,0,0.1"]
    logger.log_metrics({"val/loss": 0.25, "epoch": 0}, step=0)
    CSV(str(tmp_path)).log_metrics({"train/loss": 1 / 3, "epoch": 1}, step=1)
    names, rows = read_rows(tmp_path / "metrics.csv")
    assert names == ["epoch", "step", "train/loss", "val/loss"]
    assert [tuple(row.values()) for row in rows] == [
        ("0", "0", "0.1", ""),
        ("0", "0", "", "0.25"),
        ("1", "1", repr(1 / 3), ""),
    ]


def test_the_values_of_a_test_go_to_a_file_of_their_own(tmp_path):
    logger = CSV(str(tmp_path))
    logger.write_to(tmp_path, "test")
    logger.log_metrics({"test/loss": 0.5, "epoch": 0}, step=0)
    assert (tmp_path / "test.csv").read_text().split() == ["test/loss", "0.5"]
    assert not (tmp_path / "metrics.csv").exists()


def rows_in(file):
    names, rows = read_rows(file)
    return [{name: float(row[name]) for name in names if row[name]} for row in rows]


@contextmanager
def caught():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


@contextmanager
def full_disk(file, bytes_left):
    """Let no file grow beyond the size of this one and some bytes, in this process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = file.stat().st_size if file.exists() else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + bytes_left, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("bytes_left", [0, 1, 7, 40])
def test_rows_wait_in_order_while_the_disk_is_full(bytes_left, tmp_path, monkeypatch):
    monkeypatch.setattr(csv_file, "RETRY", 0.0)
    monkeypatch.setattr(csv_file, "PATIENCE", 0)
    file = tmp_path / "metrics.csv"
    logger = CSV(str(tmp_path))
    logger.log_metrics({"train/loss": 0.5}, 0)
    with full_disk(file, bytes_left), caught() as warned:
        for step in range(1, 6):
            logger.log_metrics({"train/loss": 0.5}, step)
        logger.log_metrics({"val/loss": 0.25}, 5)
    assert [str(w.message) for w in warned] == [
        f"{file} cannot be written (File too large): the run goes on, and its rows wait in memory "
        "until there is space."
    ]
    logger.log_metrics({"train/loss": 0.5}, 6)
    train = [{"step": step, "train/loss": 0.5} for step in range(7)]
    assert rows_in(file) == [*train[:6], {"step": 5, "val/loss": 0.25}, train[6]]
    with full_disk(file, bytes_left):  # the second time is not news
        logger.log_metrics({"train/loss": 0.5}, 7)
        logger.log_metrics({"train/loss": 0.5}, 8)
        logger.log_metrics({"train/loss": 0.5}, 9)
    logger.finalize("success")
    assert [row["step"] for row in rows_in(file)] == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]


def test_a_disk_that_is_full_from_the_start_gets_all_rows_at_the_end(tmp_path):
    file = tmp_path / "metrics.csv"
    logger = CSV(str(tmp_path))
    with full_disk(file, 0), caught() as warned:
        logger.log_metrics({"train/loss": 0.5}, 0)
        logger.log_metrics({"train/loss": 0.5}, 1)
    assert len(warned) == 1
    logger.finalize("success")
    assert [row["step"] for row in rows_in(file)] == [0, 1]


def test_a_disk_that_stays_full_is_said_at_the_end(tmp_path):
    file = tmp_path / "metrics.csv"
    logger = CSV(str(tmp_path))
    logger.log_metrics({"train/loss": 0.5}, 0)
    with full_disk(file, 3), caught() as warned:
        logger.log_metrics({"train/loss": 0.5}, 1)
        logger.log_metrics({"train/loss": 0.5}, 2)
        logger.finalize("failed")
    assert len(warned) == 2
    assert "lacks its last 2 rows" in str(warned[1].message)
    assert [row["step"] for row in rows_in(file)] == [0]


def test_a_full_disk_is_tried_again_rarely(tmp_path, monkeypatch):
    logger = CSV(str(tmp_path))
    logger.log_metrics({"train/loss": 0.5}, 0)
    tries = []

    def refuse(*_, **__):
        tries.append(time.monotonic())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metalit.loggers.csv_file.Path.open", refuse)
    with caught() as warned:
        for step in range(1000):
            logger.log_metrics({"train/loss": 0.5}, step)
    assert len(tries) == len(warned) == 1
    monkeypatch.undo()
    logger.finalize("success")
    assert len(rows_in(tmp_path / "metrics.csv")) == 1001


def test_attempts_that_take_long_are_made_more_rarely_still(tmp_path, monkeypatch):
    tries, now = [], 0.0

    def refuse(*_, **__):
        nonlocal now
        tries.append(now)
        now += 3.0
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv_file, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("metalit.loggers.csv_file.Path.open", refuse)
    logger = CSV(str(tmp_path))
    with caught():
        for step in range(100):
            logger.log_metrics({"train/loss": 0.5}, step)
            now += 1.0
    assert tries == [0.0, 3.0 + 20 * 3.0]


def test_rows_are_on_the_disk_before_a_checkpoint_counts_them(tmp_path, monkeypatch):
    logger, synced, fsync = CSV(str(tmp_path)), [], os.fsync

    def watched(descriptor):
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    assert logger.rows == 0
    logger.log_metrics({"train/loss": 0.5}, 0)
    del synced[:]  # of the file with its columns
    logger.log_metrics({"train/loss": 0.5}, 1)
    assert synced == []
    assert logger.rows == 2
    file = tmp_path / "metrics.csv"
    assert synced == [(str(file), file.stat().st_size)]


def test_a_torn_last_row_is_dropped_when_the_run_goes_on(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/loss\n0,0.5\n1,0.")
    CSV(str(tmp_path)).log_metrics({"train/loss": 0.25}, 1)
    assert (tmp_path / "metrics.csv").read_text() == "step,train/loss\n0,0.5\n1,0.25\n"


def test_wandb_is_offline_by_default_and_a_resumed_run_goes_on_under_its_id(
    sinusoids, tmp_path, offline, capfd
):
    arguments = ["fit", "--config", str(sinusoids), "--trainer.logger"]
    arguments += ["[metalit.loggers.CSV,metalit.loggers.WandB]", "--trainer.max_epochs"]
    main([*arguments, "1"])
    main([*arguments, "2", "--ckpt_path", "last"])
    found = ids(tmp_path / "runs" / "version_0")
    assert len(found) == 2
    assert len(set(found)) == 1
    assert len(list((tmp_path / "runs/version_0/wandb").glob("offline-run-*"))) == 2
    assert "wandb" not in capfd.readouterr().err.lower()


def test_training_goes_on_without_a_wandb_that_can_be_imported(
    sinusoids, offline, monkeypatch, tmp_path
):
    (tmp_path / "wandb.py").write_text("raise OSError('no space left on device\\nand more')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.warns(UserWarning, match=r"stopped logging \(no space left on device\)"):
        cli = main(["fit", "--config", str(sinusoids), "--trainer.logger", "metalit.loggers.WandB"])
    assert cli.trainer.global_step == 6


@pytest.mark.parametrize("project", ["a/b", "x" * 200])
def test_a_project_that_wandb_refuses_warns_once(project, tmp_path, offline):
    logger = WandB(project=project, save_dir=str(tmp_path))
    logger.log_metrics({"train/loss": 1.0}, 0)
    logger.log_hyperparams({"a": 1})
    with pytest.warns(UserWarning, match="W&B stopped logging .*: the run goes on"):
        logger.finalize("success")
    logger.log_metrics({"train/loss": 1.0}, 1)  # a second warning would be an error here
    logger.finalize("success")


def test_other_ranks_log_nothing(tmp_path, offline, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    for logger in (CSV(str(tmp_path)), WandB(save_dir=str(tmp_path))):
        logger.log_metrics({"train/loss": 1.0}, 0)
        logger.log_hyperparams({"a": 1})
        logger.finalize("success")
    assert os.listdir(tmp_path) == []


def test_a_login_is_found_in_the_environment_or_in_netrc(tmp_path, offline, monkeypatch):
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert logged_in()
    (tmp_path / "netrc").write_text("machine api.forge.coreweave.com login user password secret\n")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()
