"""Flips single bits of checkpoints and cuts them short: none is ever loaded as if it were whole.

A checkpoint of a run has a SHA-256 of ours; another one, as plain Lightning writes it, has the
checksums of its zip archive alone. Each damage is put before `load_checkpoint`, and some before
the command line with `--ckpt_path last`: where there is a predecessor it is taken, and named in
one line; where there is none, the last line names the file and the exit code is 2.
"""

import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from forked import Outcome, run_forked
from report import Measurement, print_rows
from small_run import make_run

Damage = Callable[[bytes], bytes]
LIMIT = 120  # seconds of the command line


def main(argv: Sequence[str]) -> int:
    """Run all cases."""
    measurement = Measurement("damage", __doc__, 500)
    measurement.parser.add_argument("--cuts", type=int, help="truncations; a fifth of --count")
    measurement.parser.add_argument("--lines", type=int, default=40, help="by the command line")
    options = measurement.parse(argv)
    cuts = options.count // 5 if options.cuts is None else options.cuts
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        ours = make_run(folder)
        # as Lightning writes it, with torch.save and no more
        plain = folder / "plain.ckpt"
        torch.save(torch.load(ours, weights_only=True), plain)
        rows = {
            (kind, file.name): count_loads(file, [make(generator, file) for _ in range(count)])
            for file in (ours, plain)
            for kind, make, count in (("bits", any_bit, options.count), ("cuts", any_cut, cuts))
        }
        damages = [
            make(generator, ours) for make in (any_bit, any_cut) for _ in range(options.lines // 2)
        ]
        lines = Counter(
            ask_command_line(Path(name) / "line", folder, damage, has_predecessor=number % 2 == 0)
            for number, damage in enumerate(damages)
        )
    print_rows(
        [["damage", "file", "named", "same content", "silent"]]
        + [[*key, row["named"], row["same content"], row["silent"]] for key, row in rows.items()]
    )
    print(f"by the command line: {dict(lines)}")
    silent = sum(row["silent"] for row in rows.values())
    other = sum(count for said, count in lines.items() if said not in ("named", "predecessor"))
    cells = [{"damage": kind, "file": name, **row} for (kind, name), row in rows.items()]
    return measurement.write({"cells": cells, "command_line": dict(lines)}, silent + other)


def any_bit(generator: random.Random, file: Path) -> Damage:
    """A bit of the file, flipped."""
    return partial(_flip, bit=generator.randrange(8 * file.stat().st_size))


def any_cut(generator: random.Random, file: Path) -> Damage:
    """The end of the file, gone."""
    return partial(_cut, size=generator.randrange(file.stat().st_size))


def _flip(content: bytes, bit: int) -> bytes:
    place, inside = divmod(bit, 8)
    return content[:place] + bytes([content[place] ^ 1 << inside]) + content[place + 1 :]


def _cut(content: bytes, size: int) -> bytes:
    return content[:size]


def count_loads(file: Path, damages: Sequence[Damage]) -> dict[str, int]:
    """Count what comes of loading a file after each damage.

    Returns:
        "named": a ValueError in one line with the name of the file; "same content": a file that
        loads as what was saved, since the damage is where nothing is; "silent": anything else.
    """
    from metalit.checkpoints import load_checkpoint

    whole, content = load_checkpoint(file), file.read_bytes()
    counts = Counter(named=0, silent=0) | Counter({"same content": 0})
    damaged = file.with_name("damaged.ckpt")
    for damage in damages:
        damaged.write_bytes(damage(content))
        try:
            loaded = load_checkpoint(damaged)
        except ValueError as error:
            said = str(error)
            counts["named" if str(damaged) in said and "\n" not in said else "silent"] += 1
        else:
            counts["same content" if is_same(loaded, whole) else "silent"] += 1
    damaged.unlink(missing_ok=True)
    return {name: counts[name] for name in ("named", "same content", "silent")}


def is_same(one: Any, other: Any) -> bool:
    """Compare two nested states bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.numpy().tobytes() == other.numpy().tobytes()
    return bool(one == other)


def ask_command_line(folder: Path, run: Path, damage: Damage, has_predecessor: bool) -> str:
    """Damage the last checkpoint of a copy of a run, and go on with it.

    Returns:
        "predecessor" if that was taken and named, "named" if the last line named the damaged
        file, else what went wrong.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    file = folder / "runs/version_0/checkpoints/last.ckpt"
    before = file.with_name("last.previous.ckpt")
    if not has_predecessor:
        before.unlink()
    file.write_bytes(damage(file.read_bytes()))
    done = run_forked(_go_on, folder, LIMIT)
    if has_predecessor:
        taken = [line for line in done.said.splitlines() if "its predecessor" in line]
        fine = (
            done.code == 0 and len(taken) == 1 and file.name in taken[0] and before.name in taken[0]
        )
        return "predecessor" if fine else f"not taken: {_end(done)}"
    last = done.complained.strip().splitlines()[-1:]
    fine = done.code == 2 and "Traceback" not in done.complained and file.name in "".join(last)
    return "named" if fine else f"not named: {_end(done)}"


def _go_on() -> None:
    from metalit.__main__ import run

    sys.argv = ["metalit", "fit", "--config", "config.yaml", "--ckpt_path", "last"]
    sys.argv += ["--trainer.max_epochs", "3"]
    run()


def _end(done: Outcome) -> str:
    return f"exit code {done.code}, {(done.said + done.complained).strip()[-300:]}"
