"""Checkpoint files that are whole or absent: how they are written, checked and read."""

import errno
import hashlib
import logging
import os
import re
import struct
import zipfile
from contextlib import suppress
from itertools import count
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from .trust import refuse_forced_unpickling

log = logging.getLogger(__name__)

_DIGITS = 64  # of a SHA-256
_NO_COMMENT = b"\0\0"  # what a zip archive without a comment ends with: its length
_MARK = b"metalit-sha256:"
_COMMENT = struct.pack("<H", len(_MARK) + _DIGITS) + _MARK
_BLOCK = 2**20
_TEMPORARY = ".writing"


class DamagedCheckpointError(ValueError):
    """Raised where a checkpoint file is not as it was written.

    Args:
        file: The file.
        what: What is wrong with it.
    """

    def __init__(self, file: Path, what: str) -> None:
        self.what = what
        before = predecessor(file)
        advice = f"give its predecessor {before}" if before.is_file() else "give another"
        super().__init__(f"{file} is no checkpoint, or a damaged one ({what}): {advice}.")


def write_temporary(checkpoint: dict[str, Any], file: Path) -> Path:
    """Write a checkpoint beside `file`, under a name that `sweep` knows; return that name.

    Raises:
        OSError: If it cannot be written; nothing is left behind then.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, so that it can be renamed at once whatever TMPDIR is
    beside = file.with_name(f".{file.name}.{os.getpid()}{_TEMPORARY}")
    try:
        try:
            torch.save(checkpoint, beside)
        except RuntimeError as error:  # of torch's writer, which does not say what the disk said
            _write_more(beside)
            raise OSError(errno.EIO, str(error).splitlines()[0]) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside


def publish(beside: Path, file: Path) -> None:
    """Let a temporary file become `file`, once it is known to be whole and on the disk.

    The SHA-256 of its bytes is added as the comment of the zip archive that torch writes, so that
    file and checksum cannot part; torch, and whoever else reads it, passes over it. The `file` of
    before is kept as its predecessor. A kill at any time leaves `file` as it was, or as it is to
    be.

    Raises:
        OSError: If the disk does not take it.
        ValueError: If what was written cannot be read again, or not without running code.
    """
    try:
        with beside.open("r+b") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            stream.seek(-len(_NO_COMMENT), os.SEEK_END)
            stream.write(_COMMENT + digest.encode())
            stream.flush()
            os.fsync(stream.fileno())
        try:
            _read(beside, "cpu")
        except DamagedCheckpointError as error:
            raise OSError(errno.EIO, f"it cannot be read again: {error}") from error
        except ValueError as error:
            raise ValueError(f"a checkpoint cannot be saved as {file}: {error}") from error
        if file.exists():
            _keep(file)
        beside.replace(file)
        _sync_folder(file.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def load_checkpoint(file: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint, after a look at its SHA-256; nothing in it is ever executed.

    A checkpoint of another framework has no SHA-256: the checksums of the zip archive are looked
    at instead.

    Args:
        file: A checkpoint file.
        map_location: Where its tensors go, as in `torch.load`.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it cannot be read.
        DamagedCheckpointError: If it is not as it was written.
        ValueError: If it is no checkpoint of Lightning's, or would run code.
    """
    file = Path(file)
    whole = _check(file)
    try:
        checkpoint = _read(file, map_location)
    except DamagedCheckpointError as error:
        if not whole:
            raise
        raise ValueError(
            f"{file} is as it was written but cannot be read ({error.what}): try another "
            "map_location, or a machine like the one that it was made on."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(
            f"{file} has no state_dict but must be a checkpoint of a run: give another."
        )
    return checkpoint


def open_checkpoint(file: Path) -> tuple[Path, dict[str, Any]]:
    """Read a checkpoint, or the one before it where it is damaged, which is logged.

    Returns:
        The file that was read, and the checkpoint.

    Raises:
        ValueError: As `load_checkpoint`, if neither can be read.
    """
    try:
        return file, load_checkpoint(file)
    except (DamagedCheckpointError, OSError) as error:
        before = predecessor(file)
        if not before.is_file():
            raise
        checkpoint = load_checkpoint(before)
        damaged = isinstance(error, DamagedCheckpointError)
        said = str(error).rpartition(": ")[0] if damaged else f"{file} cannot be read ({error})"
        log.warning("%s; its predecessor %s is taken.", said, before.name)
        return before, checkpoint


def predecessor(file: Path) -> Path:
    """Return the name under which the checkpoint before `file` is kept."""
    return file.with_name(f"{file.stem}.previous{file.suffix}")


def set_aside(taken: Path) -> None:
    """Give a damaged file another name, where its predecessor was taken for it.

    Else it would be the predecessor of the next checkpoint, in the place of one that is whole.
    """
    stem = taken.stem.removesuffix(".previous")
    damaged = taken.with_name(f"{stem}{taken.suffix}")
    if damaged != taken and damaged.is_file():
        damaged.replace(taken.with_name(f"{stem}.damaged{taken.suffix}"))


def free_name(file: Path) -> Path:
    """Return the first of `name.1.ckpt`, `name.2.ckpt`, … that does not exist."""
    names = (file.with_suffix(f".{number}{file.suffix}") for number in count(1))
    return next(name for name in names if not name.exists())


def keep_aside(file: Path) -> Path:
    """Keep a file that another one is about to replace, under a numbered name; return that."""
    kept = free_name(file)
    try:
        os.link(file, kept)
    except OSError:  # a file system without hard links
        file.replace(kept)
    return kept


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder of checkpoints."""
    for stale in folder.glob(f".*{_TEMPORARY}"):
        writer = stale.name.removesuffix(_TEMPORARY).rpartition(".")[2]
        if writer.isdecimal() and not _is_other_process(int(writer)):
            stale.unlink(missing_ok=True)


def _is_other_process(number: int) -> bool:
    """Return whether a process of that number runs, which is not this one."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return number != os.getpid()  # in a container, a restart often has the number of before


def _check(file: Path) -> bool:
    """Refuse a file whose bytes are not those that were written; return whether that is certain."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - len(_COMMENT) - _DIGITS))
        end = stream.read()
        if end.startswith(_COMMENT):
            stream.seek(0)
            digest = hashlib.sha256()
            left = size - len(end)
            while left > 0:
                left -= len(block := stream.read(min(left, _BLOCK)))
                digest.update(block)
            digest.update(_NO_COMMENT)
            if end[len(_COMMENT) :] != digest.hexdigest().encode():
                raise DamagedCheckpointError(file, "its SHA-256 is another")
            return True
    # no comment at all, else it is a checksum that something has happened to
    if not end[-22:].startswith(b"PK\5\6"):
        raise DamagedCheckpointError(file, "it does not end as one")
    try:
        with zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
    except Exception as error:  # zipfile raises whatever the bytes lead to
        raise DamagedCheckpointError(file, str(error)) from error
    if bad is not None:
        raise DamagedCheckpointError(file, f"the checksum of {bad} is another")
    return False


def _read(file: Path, map_location: Any) -> Any:
    """Read tensors and primitives, and nothing else."""
    refuse_forced_unpickling()
    try:
        return torch.load(file, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        found = re.search(
            r"GLOBAL (\S+)|(\S+) was not an allowed global|Unsupported .*", str(error)
        )
        if found is None:
            raise DamagedCheckpointError(file, str(error).splitlines()[0]) from error
        raise ValueError(
            f"{file} holds more than tensors, numbers and text ({found[0]}): it could run code, "
            "and is not read."
        ) from error
    except (MemoryError, OSError):
        raise
    except Exception as error:  # torch raises EOFError, RuntimeError, KeyError and more
        raise DamagedCheckpointError(file, (str(error).splitlines() or [""])[0]) from error


def _keep(file: Path) -> None:
    """Keep a file under the name of the predecessor; at no time is there neither."""
    kept = predecessor(file)
    beside = kept.with_name(f".{kept.name}.{os.getpid()}{_TEMPORARY}")
    beside.unlink(missing_ok=True)
    try:
        os.link(file, beside)
    except OSError:  # a file system without hard links
        file.replace(kept)
    else:
        beside.replace(kept)


def _sync_folder(folder: Path) -> None:
    """Let the new name of a file reach the disk, too, where the file system knows how."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_more(file: Path) -> None:
    """Raise the OSError of a disk that does not take more, if it does not."""
    with file.open("ab") as stream:
        stream.write(bytes(_BLOCK))
        stream.flush()
        os.fsync(stream.fileno())
