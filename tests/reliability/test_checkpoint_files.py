import hashlib
import os
import pickle
import resource
import signal
import struct
import subprocess
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch

from metalit.checkpoints import (
    DamagedCheckpointError,
    SafeCheckpointIO,
    load_checkpoint,
    open_checkpoint,
    predecessor,
    set_aside,
    sweep,
)

BESIDE = {"wait": False}


def checkpoint(number=0, size=100):
    return {"state_dict": {"weight": torch.full((size,), float(number))}, "number": number}


def saved(folder, *numbers):
    """Save checkpoints of these numbers under one name."""
    files, file = SafeCheckpointIO(), folder / "last.ckpt"
    for number in numbers:
        files.save_checkpoint(checkpoint(number), file)
    files.wait()
    return file


def refuse(*_):
    raise OSError("not on this disk")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_checkpoint_is_read_as_it_was_written_and_torch_reads_it_too(tmp_path):
    file = saved(tmp_path, 3)
    for read in (load_checkpoint(file), torch.load(file, weights_only=True)):
        assert read["number"] == 3
        assert torch.equal(read["state_dict"]["weight"], torch.full((100,), 3.0))
    assert [f.name for f in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_file_holds_the_sha256_of_the_archive_that_torch_wrote(tmp_path):
    content = saved(tmp_path, 0).read_bytes()
    with zipfile.ZipFile(tmp_path / "last.ckpt") as archive:
        comment = archive.comment
    archive = content[: -len(comment) - 2] + struct.pack("<H", 0)
    assert comment == b"metalit-sha256:" + hashlib.sha256(archive).hexdigest().encode()


def test_an_overwritten_checkpoint_keeps_its_predecessor(tmp_path):
    file = saved(tmp_path / "a" / "new" / "folder", 1, 2, 3)
    assert load_checkpoint(file)["number"] == 3
    assert load_checkpoint(predecessor(file))["number"] == 2
    assert sorted(f.name for f in file.parent.iterdir()) == ["last.ckpt", "last.previous.ckpt"]


def test_a_damaged_checkpoint_gives_way_to_its_predecessor_in_one_line(tmp_path, caplog):
    file = saved(tmp_path, 1, 2)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"last.ckpt is .* give its predecessor"):
        load_checkpoint(file)
    found, read = open_checkpoint(file)
    assert found == predecessor(file)
    assert read["number"] == 1
    (said,) = caplog.messages
    assert said.startswith(f"{file} is no checkpoint, or a damaged one (its SHA-256 is another)")
    assert said.endswith("; its predecessor last.previous.ckpt is taken.")
    predecessor(file).unlink()
    with pytest.raises(DamagedCheckpointError, match="give another"):
        open_checkpoint(file)


def test_where_no_links_can_be_made_the_predecessor_is_kept_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse)
    file = saved(tmp_path, 1, 2)
    assert [load_checkpoint(f)["number"] for f in (file, predecessor(file))] == [2, 1]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    file = saved(tmp_path, 1)
    for name in (".last.ckpt.4194305.writing", ".best.ckpt.4194306.writing"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "notes.txt").touch()
    sweep(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == [file.name, "notes.txt"]


def test_the_bytes_reach_the_disk_before_the_name_and_the_name_before_it_is_known(
    tmp_path, monkeypatch
):
    events = []
    replace, fsync = Path.replace, os.fsync

    def watched_replace(self, target):
        events.append(f"name {Path(target).name}")
        return replace(self, target)

    def watched_fsync(descriptor):
        file = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if file.is_file():
            assert b"metalit-sha256:" in file.read_bytes()
        events.append(f"sync {file.name}")
        fsync(descriptor)

    monkeypatch.setattr(Path, "replace", watched_replace)
    monkeypatch.setattr(os, "fsync", watched_fsync)
    saved(tmp_path, 1)
    written = f"sync .last.ckpt.{os.getpid()}.writing"
    assert events == [written, "name last.ckpt", f"sync {tmp_path.name}"]


def test_at_no_time_is_there_no_checkpoint_of_that_name(tmp_path, monkeypatch):
    file, replace, seen = saved(tmp_path, 1), Path.replace, []

    def watched(self, target):
        seen.append(load_checkpoint(file)["number"])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    (tmp_path / f".last.previous.ckpt.{os.getpid()}.writing").touch()  # of a process of that id
    saved(tmp_path, 2)
    assert seen == [1, 1]  # the predecessor, and what takes its place
    assert sorted(f.name for f in tmp_path.iterdir()) == ["last.ckpt", "last.previous.ckpt"]


def test_what_can_not_be_read_without_running_code_is_refused_when_it_is_saved(tmp_path):
    held = {**checkpoint(), "callbacks": {"Mine": {"folder": Path("x")}}}
    for options in (None, BESIDE):  # also the first that need not be waited for
        with pytest.raises(ValueError, match=r"cannot be saved as .*last.ckpt: .*PosixPath"):
            SafeCheckpointIO().save_checkpoint(held, tmp_path / "last.ckpt", options)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_forced_to_be_unsafe_are_not_read(tmp_path, monkeypatch):
    file = saved(tmp_path, 1)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ValueError, match=r"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set .* unset it"):
        load_checkpoint(file)


def test_a_full_disk_is_named_and_the_checkpoint_before_stays(small_disk, caplog):
    files, file = SafeCheckpointIO(), small_disk / "last.ckpt"
    files.save_checkpoint(checkpoint(1), file)
    files.save_checkpoint(checkpoint(2, size=200_000), file)
    files.wait()
    assert files.failures == {file: "No space left on device"}
    (said,) = caplog.messages
    assert "cannot be saved (No space left on device); the one before it stays" in said
    assert load_checkpoint(file)["number"] == 1
    assert [f.name for f in small_disk.iterdir()] == ["last.ckpt"]
    files.save_checkpoint(checkpoint(3), file)  # there is room again
    files.wait()
    assert files.failures == {}
    assert load_checkpoint(file)["number"] == 3


@pytest.fixture
def lossy_disk(monkeypatch):
    """A disk that says yes to all, and keeps the beginnings of files."""
    fsync = os.fsync

    def lose(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_file():
            os.ftruncate(descriptor, 300)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", lose)


def test_what_the_disk_has_lost_is_named_once_and_does_not_end_the_run(
    tmp_path, lossy_disk, caplog
):
    files, file = SafeCheckpointIO(), tmp_path / "last.ckpt"
    files.save_checkpoint(checkpoint(1), file)
    files.wait()
    (said,) = caplog.messages
    assert f"The checkpoint {file} cannot be saved (it cannot be read again: " in said
    assert list(files.failures) == [file]
    assert list(tmp_path.iterdir()) == []


def test_a_failure_beside_what_comes_next_is_known_when_the_next_one_is_saved(
    tmp_path, monkeypatch
):
    files = SafeCheckpointIO()
    files.save_checkpoint(checkpoint(), tmp_path / "first.ckpt")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        files.save_checkpoint(checkpoint(), tmp_path / "first.ckpt", storage_options=BESIDE)
        assert files._pending[1].exception(10)
    files.save_checkpoint(checkpoint(), tmp_path / "next.ckpt", storage_options=BESIDE)
    assert list(files.failures) == [tmp_path / "first.ckpt"]
    files.wait()


def test_a_limit_on_the_size_of_files_is_named(tmp_path, caplog):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        SafeCheckpointIO().save_checkpoint(checkpoint(1, 100_000), tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "(File too large); there is none yet" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(caplog):
    SafeCheckpointIO().save_checkpoint(checkpoint(1), "/proc/nowhere/last.ckpt")
    assert "The checkpoint /proc/nowhere/last.ckpt cannot be saved (" in caplog.text


def test_other_storage_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"storage_options=.. but only wait can be given"):
        SafeCheckpointIO().save_checkpoint(checkpoint(), tmp_path / "x.ckpt", storage_options={})


def test_a_checkpoint_is_there_when_saving_returns_unless_it_need_not_be(tmp_path, monkeypatch):
    files, let, replace = SafeCheckpointIO(), threading.Event(), Path.replace
    file = tmp_path / "last.ckpt"
    for name in ("best.ckpt", "last.ckpt"):
        # the first of a process is waited for, and one without which there would be none
        files.save_checkpoint(checkpoint(0), tmp_path / name, BESIDE)
        assert (tmp_path / name).is_file()

    def wait(self, target):
        assert let.wait(10)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", wait)
    files.save_checkpoint(checkpoint(1), file, BESIDE)
    assert load_checkpoint(file)["number"] == 0
    let.set()
    files.wait()
    assert load_checkpoint(file)["number"] == 1


def test_who_reads_removes_or_ends_waits_for_what_is_being_written(tmp_path, monkeypatch):
    files, file, replace = SafeCheckpointIO(), saved(tmp_path, 0), Path.replace
    files.save_checkpoint(checkpoint(0), file)

    def slow(self, target):
        time.sleep(0.05)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", slow)
    files.save_checkpoint(checkpoint(1), file, BESIDE)
    assert files.load_checkpoint(file)["number"] == 1
    files.save_checkpoint(checkpoint(2), file, BESIDE)
    files.teardown()
    assert load_checkpoint(file)["number"] == 2
    files.save_checkpoint(checkpoint(3), file, BESIDE)
    files.remove_checkpoint(file)
    files.wait()
    assert not file.exists()


def test_nothing_but_a_checkpoint_file_is_removed(tmp_path):
    (tmp_path / "notes.txt").touch()
    for name in (str(tmp_path), f"local://{tmp_path}", str(tmp_path / "notes.txt")):
        SafeCheckpointIO().remove_checkpoint(name)
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_it_can_be_pickled_for_processes_that_are_spawned():
    assert pickle.loads(pickle.dumps(SafeCheckpointIO())).failures == {}


def test_a_whole_checkpoint_is_never_called_damaged(tmp_path):
    file = saved(tmp_path, 1, 2)
    with pytest.raises(ValueError, match=r"as it was written but cannot be read .*map_location"):
        load_checkpoint(file, map_location="cuda:77")


def test_a_machine_without_memory_calls_no_checkpoint_damaged(tmp_path, monkeypatch):
    def load(*_, **__):
        raise MemoryError

    file = saved(tmp_path, 1, 2)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(MemoryError):
        open_checkpoint(file)


def test_a_damaged_file_leaves_its_name_to_its_predecessor_and_an_absent_one_nothing(tmp_path):
    file = saved(tmp_path, 1, 2)
    set_aside(file)  # which was taken itself
    assert load_checkpoint(file)["number"] == 2
    set_aside(predecessor(file))
    names = ["last.damaged.ckpt", "last.previous.ckpt"]
    assert sorted(f.name for f in tmp_path.iterdir()) == names
    set_aside(predecessor(file))
    assert sorted(f.name for f in tmp_path.iterdir()) == names


def test_a_bit_of_the_checksum_itself_is_as_good_as_any_other(tmp_path):
    file = saved(tmp_path, 1)
    content = file.read_bytes()
    for place in (content.index(b"metalit-sha256:") - 1, content.index(b"sha256:"), -1):
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError):
            load_checkpoint(file)


def test_a_checkpoint_of_others_is_looked_at_by_the_checksums_of_its_archive(tmp_path):
    file = tmp_path / "theirs.ckpt"
    torch.save(checkpoint(3), file)
    assert load_checkpoint(file)["number"] == 3
    content = bytearray(file.read_bytes())
    content[content.index(struct.pack("<f", 3.0) * 100)] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"the checksum of \S+/data/0 is another"):
        load_checkpoint(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", "no tensors")
    with pytest.raises(DamagedCheckpointError, match=r"theirs.ckpt is no checkpoint"):
        load_checkpoint(file)


def test_what_is_no_checkpoint_of_a_run_is_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights.pt has no state_dict but must be a checkpoint"):
        load_checkpoint(tmp_path / "weights.pt")
    (tmp_path / "empty.ckpt").touch()
    with pytest.raises(DamagedCheckpointError, match=r"\(it does not end as one\): give another"):
        load_checkpoint(tmp_path / "empty.ckpt")


def test_a_file_that_the_disk_does_not_give_back_gives_way_to_its_predecessor(
    tmp_path, monkeypatch, caplog
):
    file, opened = saved(tmp_path, 1, 2), Path.open

    def broken(self, *arguments, **named):
        if self == file:
            raise OSError(5, "Input/output error")
        return opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", broken)
    assert open_checkpoint(file)[1]["number"] == 1
    assert "cannot be read ([Errno 5] Input/output error); its predecessor" in caplog.text


def test_a_file_system_that_cannot_sync_folders_is_none_that_fails(tmp_path, monkeypatch):
    fsync, opened = os.fsync, len(os.listdir("/proc/self/fd"))

    def sync_files(descriptor):
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir():
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files)
    files = SafeCheckpointIO()
    files.save_checkpoint(checkpoint(1), tmp_path / "last.ckpt")
    assert files.failures == {}
    assert load_checkpoint(tmp_path / "last.ckpt")["number"] == 1
    assert len(os.listdir("/proc/self/fd")) == opened


def test_other_file_systems_are_left_to_lightning_but_for_code():
    files = SafeCheckpointIO()
    files.save_checkpoint(checkpoint(4), "memory://folder/last.ckpt")
    assert files.load_checkpoint("memory://folder/last.ckpt")["number"] == 4
    files.save_checkpoint({"folder": Path("x")}, "memory://folder/last.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        files.load_checkpoint("memory://folder/last.ckpt")
