"""Run folders: where a run writes, and which checkpoint `last` and `best` mean."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

CHECKPOINTS = "checkpoints"


def new_run(root: Path) -> Path:
    """Make the folder `root/version_n` of a fresh run, with the first free n."""
    root.mkdir(parents=True, exist_ok=True)
    number = max((_number(folder) for folder in root.glob("version_*")), default=-1)
    while True:  # another process may take the number first
        number += 1
        folder = root / f"version_{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def find_checkpoint(root: Path, checkpoint: str) -> Path:
    """Return the file that `last`, `best` or a path means.

    Args:
        root: Folder of the runs, in which `last` and `best` look for the newest that has one.
        checkpoint: "last", "best" or the path of a file.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if checkpoint not in ("last", "best"):
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(
                f"there is no checkpoint {checkpoint!r}: give the path of a .ckpt file, last or best."
            )
        return Path(checkpoint)
    for run in sorted(root.glob("version_*"), key=_number, reverse=True):
        if (file := run / CHECKPOINTS / f"{checkpoint}.ckpt").is_file():
            return file
    raise FileNotFoundError(
        f"no run in {str(root)!r} has a checkpoint {checkpoint!r}: run `fit` first, "
        "or name a file with --ckpt_path."
    )


def run_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint file lies in, if it lies in one."""
    run = checkpoint.absolute().parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and _number(run) >= 0 else None


def cut_metrics(file: Path, step: int) -> None:
    """Drop the rows of `metrics.csv` from `step` on, which a resumed run will write again.

    Where rows are dropped, the file as it was is kept beside it under a numbered name.
    """
    if not file.is_file():
        return
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        names, rows = list(reader.fieldnames or ()), list(reader)
    kept = [row for row in rows if row.get("step") and int(row["step"]) < step]
    if len(kept) == len(rows):
        return
    beside = file.with_suffix(".csv.new")
    with beside.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(kept)
    os.link(file, next(name for name in _backups(file) if not name.exists()))
    beside.replace(file)


def _backups(file: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        yield file.with_suffix(f".{number}.csv")


def _number(folder: Path) -> int:
    name, _, number = folder.name.partition("_")
    return int(number) if name == "version" and number.isdigit() else -1
