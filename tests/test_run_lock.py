import errno
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from metalit import run_lock
from metalit.main import main
from metalit.run_lock import RunLock

OWNER = """
import os, sys, time
from pathlib import Path
from metalit.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
worker = os.fork()
if worker:
    print(worker, flush=True)
time.sleep(60)
"""


@contextmanager
def owner(run):
    """Another process, with a worker, that trains in the folder; it is killed, the worker not."""
    command = [sys.executable, "-c", OWNER, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            os.kill(worker, 9)


@pytest.mark.parametrize("asked", ["last", "auto"])
def test_a_run_that_is_being_trained_is_not_gone_on_with(sinusoids, tmp_path, asked):
    arguments = ["fit", "--config", str(sinusoids), "--trainer.max_epochs"]
    main([*arguments, "1"])
    run = tmp_path / "runs/version_0"
    with owner(run) as process:
        before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        said = rf"version_0' is being trained by process {process.pid} on .+: wait until"
        with pytest.raises(ValueError, match=said):
            main([*arguments, "2", "--ckpt_path", asked])
        assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
        process.kill()
        process.wait()
        assert main([*arguments, "2", "--ckpt_path", asked]).trainer.global_step == 12
    assert not (run / ".lock").exists()


def test_while_a_run_is_trained_its_folder_is_held(sinusoids, tmp_path, monkeypatch):
    held = []
    monkeypatch.setattr(
        "metalit.MetaLearner.on_train_end", lambda model: held.append(_other_fails(tmp_path))
    )
    main(["fit", "--config", str(sinusoids)])
    assert held == [True]
    assert not list(tmp_path.rglob(".lock"))


def _other_fails(folder):
    """Return whether another process cannot have the lock."""
    (run,) = (folder / "runs").iterdir()
    done = subprocess.run(
        [sys.executable, "-c", OWNER.partition("worker")[0], str(run)],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"is being trained by process {os.getpid()} on " in done.stderr


def test_a_file_that_its_owner_removes_meanwhile_is_made_anew(tmp_path, monkeypatch):
    locked = []

    def lockf(file, how):
        if not locked:
            (tmp_path / ".lock").unlink()
        locked.append(file)

    monkeypatch.setattr(run_lock.fcntl, "lockf", lockf)
    lock = RunLock(tmp_path)
    assert len(locked) == 2
    assert locked[0].closed
    assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()
    lock.release()
    assert not (tmp_path / ".lock").exists()


def test_a_run_on_a_full_disk_is_held_all_the_same(tmp_path, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_lock.os, "write", write)
    lock = RunLock(tmp_path)
    monkeypatch.undo()
    found = subprocess.run(
        [sys.executable, "-c", OWNER.partition("worker")[0], str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is being trained by another process" in found.stderr
    lock.release()


def test_a_run_that_has_saved_nothing_yet_is_not_begun_twice(sinusoids, tmp_path):
    (tmp_path / "runs/version_3").mkdir(parents=True)
    arguments = ["fit", "--config", str(sinusoids), "--ckpt_path", "auto"]
    with (
        owner(tmp_path / "runs/version_3"),
        pytest.raises(ValueError, match=r"version_3' is being trained by process"),
    ):
        main(arguments)
    main(arguments)
    assert (tmp_path / "runs/version_4/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_a_run_goes_on(tmp_path, monkeypatch, number):
    def lockf(file, how):
        raise OSError(number, "no locks")

    monkeypatch.setattr(run_lock.fcntl, "lockf", lockf)
    RunLock(tmp_path).release()
    RunLock(tmp_path / "absent").release()
