"""Run folders: where a run writes, and which checkpoint `last` and `best` mean."""

import csv
import io
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from .checkpoints import free_name, predecessor
from .run_lock import LOCK

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
METRICS = "metrics.csv"


def new_run(root: Path) -> Path:
    """Make the folder `root/version_n` of a fresh run, with the first free n."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"trainer.default_root_dir is {str(root)!r}, where no folder can be made "
            f"({error.strerror}): choose another."
        ) from error
    number = max((_number(folder) for folder in root.glob("version_*")), default=-1)
    while True:  # another process may take the number first
        number += 1
        folder = root / f"version_{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def find_checkpoint(root: Path, checkpoint: str) -> Path | None:
    """Return the file that `last`, `best`, `auto` or a path means.

    Args:
        root: Folder of the runs, in which `last` means the newest of `fit`, `best` the newest with
            one.
        checkpoint: "last", "best", the path of a file, or "auto": `last` where the newest run has
            a checkpoint, else none, for a job that may be the first or not.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if checkpoint not in ("last", "best", "auto"):
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(
                f"there is no checkpoint {checkpoint!r}: give the path of a .ckpt file, last, "
                "best or auto."
            )
        return Path(checkpoint)
    name = "best" if checkpoint == "best" else "last"
    for run in _runs(root):
        file = run / CHECKPOINTS / f"{name}.ckpt"
        for found in (file, predecessor(file)):
            if found.is_file():
                return found
        if checkpoint == "auto":
            return None
        if checkpoint == "last":  # going on with another run than the newest would surprise
            raise FileNotFoundError(
                f"the newest run {str(run)!r} has no checkpoint yet: start anew, or name the file "
                "of an older run with --ckpt_path."
            )
    if checkpoint == "auto":
        return None
    raise FileNotFoundError(
        f"no run in {str(root)!r} has a checkpoint {checkpoint!r}: run `fit` first, "
        "or name a file with --ckpt_path."
    )


def run_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint file lies in, if it lies in one."""
    run = checkpoint.absolute().parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and _number(run) >= 0 else None


def read_rows(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the column names and the rows of a .csv file, less a last row that is not whole."""
    with file.open(newline="") as stream:
        lines = stream.readlines()
    if lines and not lines[-1].endswith("\n"):  # the run was killed while it wrote this row
        del lines[-1]
    reader = csv.DictReader(lines)
    return list(reader.fieldnames or ()), list(reader)


def write_rows(file: Path, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Replace a .csv file at once, so that no reader, and no kill, ever sees a part of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(file, text.getvalue())


def write_whole(file: Path, text: str) -> None:
    """Write a text so that the file has all of it, or is as it was, whatever happens.

    Raises:
        OSError: If the disk does not take it; it names the file.
    """
    beside = file.with_suffix(f"{file.suffix}.new")
    try:
        with beside.open("w", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, str(file)) from error


def cut_metrics(file: Path, step: int, count: int | None = None) -> None:
    """Drop the rows of `metrics.csv` that a resumed run will write again.

    Where rows are dropped, the file as it was is kept beside it under a numbered name. Rows that
    were never written, since the disk was full or the power failed, are warned of.

    Args:
        file: The file; nothing is dropped where there is none.
        step: Outer steps that the checkpoint was made after.
        count: Rows that there were then; None keeps those of the steps before.
    """
    names, rows = read_rows(file) if file.is_file() else ([], [])
    torn = bool(names) and not file.read_bytes().endswith(b"\n")
    if count is not None and len(rows) < count:
        log.warning(
            "%s has %d of the %d rows that the checkpoint counts: the others never reached the "
            "disk, or were cut since.",
            short(file),
            len(rows),
            count,
        )
    if not names:
        return
    if count is None:
        kept = [row for row in rows if row.get("step") and int(row["step"]) < step]
    else:
        kept = rows[:count]
    if len(kept) < len(rows):
        shutil.copy2(file, free_name(file))
    if len(kept) < len(rows) or torn:
        write_rows(file, names, kept)


def save_config(file: Path, text: str) -> None:
    """Write a configuration; where the file holds another one, keep it and write beside it.

    Which checkpoint a run was resumed from is no difference.
    """
    known = [file, *file.parent.glob(f"{file.stem}.*{file.suffix}")]
    if not file.is_file():
        write_whole(file, text)
    elif all(_settings(other.read_text(errors="replace")) != _settings(text) for other in known):
        write_whole(free_name(file), text)


def _settings(text: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError:
        config = None
    if not isinstance(config, dict):  # a file that something has happened to
        return {}
    return {key: value for key, value in config.items() if key not in ("ckpt_path", "weights_only")}


def short(path: Path) -> str:
    """Return a path relative to the working directory, where it lies within."""
    inside = path.absolute().is_relative_to(Path.cwd())
    return str(path.absolute().relative_to(Path.cwd()) if inside else path)


def newest_run(root: Path) -> Path | None:
    """Return the folder of the newest run of `fit`, if there is one."""
    return next(_runs(root), None)


def _runs(root: Path) -> Iterator[Path]:
    """Return the folders of runs of `fit`, the newest first."""
    return filter(_is_of_fit, sorted(root.glob("version_*"), key=_number, reverse=True))


def _is_of_fit(run: Path) -> bool:
    """Return whether `fit` made a folder, which the other commands do where no run is theirs."""
    return any((run / name).exists() for name in ("config.yaml", CHECKPOINTS, LOCK))


def _number(folder: Path) -> int:
    name, _, number = folder.name.partition("_")
    return int(number) if name == "version" and number.isdigit() else -1
