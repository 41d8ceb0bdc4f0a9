"""Peak memory of one meta-step by inner steps and by tasks, and the seconds that it takes.

    python benchmarks/meta_step memory [--steps 1 2 5 10 20 50 100] [--points w1-k5-t32 ...]
        [--contenders ours 'autograd loop' ...] [--threads 1] [--device cpu] [--option NAME=VALUE]
        [--inner NAME=VALUE] [--variant 'TITLE: ...'] [--out meta_step_memory] [--redraw]

Conv4-64 with one task and the MLP with 32 tasks by steps, then both with 1 and 32 tasks of 5 steps.
Every point is a process of its own: it makes the contender, runs a tiny step of the same kind, so
that libraries are loaded, gives free memory back, and counts from there to the highest resident set
of the first two steps (on CUDA: allocated memory of the device). What a contender keeps for its
next step counts. JAX counts from after its first step, which compiles. Seconds are the median of
the steps that follow, points by turns with nobody: `timing.py` is for comparing times. In the end
two ratios of every point are printed: its memory to that of the fewest steps of its curve, and its
time to that of the variant "graph" at as many steps, if there is one:

    python benchmarks/meta_step memory --variant 'graph: inner.memory=graph' \\
        --variant 'steps: inner.memory=steps' --variant 'sqrt: inner.memory=sqrt'

Writes `benchmarks/results/meta_step_memory.json` and draws `docs/meta_step_memory.png`; `--redraw`
prints and draws again what is in the results.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from . import machine, variants
from .contenders import OURS, Make
from .contenders.base import Contender
from .workloads import TITLES, Workload, draw

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, ROOT, commit

CURVES = {"w1": 1, "w3": 32}  # family: tasks
POINTS = ["w1-k5-t1", "w1-k5-t32", "w3-k5-t1", "w3-k5-t32"]
CONTENDERS = ["ours", "autograd loop", "higher", "torchopt", "torch.func vmap", "jax scan"]
GRAPH = f"{OURS}, graph"  # the variant that times are related to
TO_FEWEST, TO_GRAPH = "MiB / fewest steps", "ms / graph"
MIB = 2**20


class ResidentSet:
    """Peak of this process above where it stood."""

    def __init__(self) -> None:
        gc.collect()
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):  # glibc; else what is freed may be counted before
            libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # makes VmHWM the present VmRSS
        self.before = self._status("VmRSS")

    def peak(self) -> int:
        """Return bytes."""
        return self._status("VmHWM") - self.before

    def _status(self, key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(f"{key}:"))
        return 1024 * int(line.split()[1])


class DeviceMemory:
    """Peak of the tensors on a CUDA device above where they stood."""

    def __init__(self) -> None:
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        self.before = torch.cuda.memory_allocated()

    def peak(self) -> int:
        """Return bytes."""
        return torch.cuda.max_memory_allocated() - self.before


def measure(make: Make, workload: Workload, device: str, seconds: float) -> dict[str, float]:
    """Return MiB above the state and milliseconds of one point, measured in this process."""
    small = workload.tiny()
    make(small, draw(small, device=device)).step()
    contender: Contender = make(workload, draw(workload, device=device))
    if contender.compiles:
        contender.step()
    memory = (ResidentSet if device == "cpu" else DeviceMemory)()
    for _ in range(2):
        contender.step()
    peak = memory.peak()
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while not times or (len(times) < 7 and time.perf_counter() - begin < seconds):
        start = time.perf_counter(), time.process_time()
        contender.step()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = 1e3 * np.median(times, 0)
    return {"MiB": round(peak / MIB, 1), "cpu ms": round(cpu, 2), "wall ms": round(wall, 2)}


def in_a_process(argv: Sequence[str], point: str, title: str) -> dict[str, Any] | None:
    """Run one point alone; None if the contender refuses it."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent), "memory", *argv, "--here", point, title],
        env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"{title} at {point}: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def add_ratios(points: dict[str, Any], clock: str) -> None:
    """Add to every row the two ratios that it has something to be related to for."""
    for name, rows in points.items():
        workload = Workload.parse(name)
        curve = [
            other
            for other in map(Workload.parse, points)
            if replace(other, name="", steps=0) == replace(workload, name="", steps=0)
        ]
        for title, row in rows.items():
            fewest = min(
                (other for other in curve if title in points[other.name]), key=lambda w: w.steps
            )
            if fewest.steps < workload.steps:
                row[TO_FEWEST] = round(row["MiB"] / points[fewest.name][title]["MiB"], 3)
            if GRAPH in rows:
                row[TO_GRAPH] = round(row[f"{clock} ms"] / rows[GRAPH][f"{clock} ms"], 3)


def show(points: dict[str, Any], clock: str) -> None:
    print(f"\n{'':36}{'MiB':>9}{f'{clock} ms':>10}{TO_FEWEST:>20}{TO_GRAPH:>12}")
    for name, rows in points.items():
        for title, row in rows.items():
            to_fewest, to_graph = (
                f"{row[key]:.2f}" if key in row else "" for key in (TO_FEWEST, TO_GRAPH)
            )
            print(
                f"{name:12}{title:24}{row['MiB']:9.1f}{row[f'{clock} ms']:10.1f}{to_fewest:>20}"
                f"{to_graph:>12}",
                flush=True,
            )


def draw_figure(points: dict[str, Any], file: Path) -> None:
    """Memory by inner steps; times are compared in `timing.py`, by turns."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, len(CURVES))
    for ax, (family, tasks) in zip(axes, CURVES.items(), strict=True):
        curve = {
            workload.steps: rows
            for name, rows in points.items()
            for workload in [Workload.parse(name)]
            if name.startswith(family) and workload.tasks == tasks
        }
        for title in dict.fromkeys(title for rows in curve.values() for title in rows):
            line = sorted((k, rows[title]["MiB"]) for k, rows in curve.items() if title in rows)
            ax.plot(*zip(*line, strict=True), marker="o", markersize=4, label=title)
        plural = "" if tasks == 1 else "s"
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="inner steps",
            ylabel="peak memory of a step, MiB",
            title=f"{TITLES[family].split(',')[0]}, {tasks} task{plural}",
        )
        ax.grid(alpha=0.3)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    axes[0].legend(fontsize=8)
    figure.savefig(file, dpi=130)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="meta_step memory")
    found.add_argument("--steps", nargs="*", type=int, default=[1, 2, 5, 10, 20, 50, 100])
    found.add_argument("--points", nargs="*", default=POINTS, help="workloads beside the curves")
    variants.add_arguments(found, CONTENDERS)
    found.add_argument("--seconds", type=float, default=10, help="most for the time of a point")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--device", default="cpu", help="cpu or cuda")
    found.add_argument("--out", default="meta_step_memory", help="name of the file of results")
    found.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    found.add_argument("--figure", type=Path, default=ROOT / "docs", metavar="FOLDER")
    found.add_argument("--redraw", action="store_true", help="only draw what is in the results")
    found.add_argument("--here", nargs=2, metavar=("POINT", "CONTENDER"), help=argparse.SUPPRESS)
    return found


def main(argv: Sequence[str]) -> dict[str, Any]:
    options = parser().parse_args(argv)
    clock = "cpu" if options.device == "cpu" and options.threads == 1 else "wall"
    file, figure = options.results / f"{options.out}.json", options.figure / f"{options.out}.png"
    if options.redraw:
        result: dict[str, Any] = json.loads(file.read_text())
        show(result["points"], clock)
        draw_figure(result["points"], figure)
        return result
    machine.steady(options.threads, options.device, tf32=False)
    makers = variants.chosen(options)
    if options.here:
        point, title = options.here
        found = measure(makers[title], Workload.parse(point), options.device, options.seconds)
        print(json.dumps(found))
        return found
    result = {
        "command": machine.command(["memory", *argv]),
        "commit": commit(),
        "machine": machine.describe(options.threads, options.device, tf32=False),
        "points": {},
    }
    print(json.dumps(result["machine"]))
    curves = [f"{w}-k{k}-t{tasks}" for w, tasks in CURVES.items() for k in options.steps]
    begin = time.perf_counter()
    for point in dict.fromkeys([*curves, *options.points]):
        rows = result["points"].setdefault(point, {})
        for title in makers:
            found = in_a_process(argv, point, title)
            if found:
                rows[title] = found
                print(f"{point:12}{title:24}{json.dumps(found)}", flush=True)
        result["seconds"] = round(time.perf_counter() - begin)
        add_ratios(result["points"], clock)
        options.results.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result, indent=1) + "\n")
    show(result["points"], clock)
    draw_figure(result["points"], figure)
    return result
