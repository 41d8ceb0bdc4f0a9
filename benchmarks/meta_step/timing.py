"""Milliseconds of a whole meta-step, all contenders by turns in one process.

    python benchmarks/meta_step [--workloads w1-k1 w2-k5-fo ...] [--contenders ours higher ...]
        [--rounds 15] [--threads 1] [--device cpu] [--option NAME=VALUE] [--inner NAME=VALUE]
        [--variant 'TITLE: NAME=VALUE inner.NAME=VALUE'] [--out meta_step]

A workload is called after its family, its inner steps and its tasks: `w1-k5-t32-fo` is W1 with 5
steps, 32 tasks, first order. First the meta-gradients of every contender are compared in float64
with a plain autograd loop; one that is off by more than 1e-6 is WRONG, and never the best peer.
Then in each round everyone takes two float32 steps, in a new random order and with the memory
allocator as it would be in a process of its own; the second is timed, and so is a matrix product,
whose rate turns the multiply-adds needed (see `floor.py`) into the floor. Times are medians over
rounds; "ours is faster" is the median of the ratios in a round, with a 95 % bootstrap interval.
Writes `benchmarks/results/meta_step.json`.
"""

import argparse
import gc
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import machine, variants
from .contenders import OURS, REFERENCE, Make, load
from .floor import multiply_adds
from .workloads import TITLES, WORKLOADS, Workload, draw

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, commit

TOLERANCE = 1e-6
MATMUL = "matrix product"
MATMUL_SIZE = {"cpu": 1024, "cuda": 8192}  # beyond which the rate no longer rises
MATMUL_REPEATS = 5
LEAST_ROUNDS = 3
Times = dict[str, dict[str, list[float]]]  # contender → clock → milliseconds of every round


class Errors(NamedTuple):
    """How far meta-gradients are from the reference's, in the Euclidean norm, relative to theirs.

    Attributes:
        all: Of all parameters together.
        worst: Of the worst parameter, where those with gradients smaller than 1e-4 of all together
            are judged as if they were that large: the bias of a convolution before a batch norm
            has none but rounding.
    """

    all: float
    worst: float

    @property
    def are_wrong(self) -> bool:
        # `all` too, since `max` may pass over NaN
        return not (self.worst <= TOLERANCE and self.all <= TOLERANCE)


def compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> Errors:
    norms = {name: float(g.norm()) for name, g in expected.items()}
    off = {name: float((found[name].to(g) - g).norm()) for name, g in expected.items()}
    whole = math.hypot(*norms.values())
    worst = max(off[name] / max(norms[name], 1e-4 * whole) for name in norms)
    return Errors(math.hypot(*off.values()) / whole, worst)


def check(makers: dict[str, Make], workload: Workload, device: str, seed: int) -> dict[str, Errors]:
    """Return the errors in float64 of every contender that serves."""
    state = draw(workload, seed, torch.float64, device)
    expected = load(REFERENCE)(workload, state).gradients()
    errors = {}
    for name, make in makers.items():
        try:
            found = make(workload, state).gradients()
        except ValueError as refusal:
            print(f"{name} is left out of {workload.name}: {refusal}")
            continue
        errors[name] = compare(found, expected)
        gc.collect()
    return errors


def interleave(
    calls: dict[str, Callable[[], None]], rounds: int, seconds: float, seed: int
) -> Times:
    """Time every call once a round, in an order drawn anew, until the rounds or seconds are over.

    Args:
        seconds: After which no round begins, but for the first three.
    """
    times: Times = {name: {"cpu": [], "wall": []} for name in calls}
    random = np.random.default_rng(seed)
    for call in calls.values():
        call()
    gc.collect()
    gc.freeze()  # what is made by now need not be looked through at every collection
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - begin > seconds:
            break
        for name in random.permutation(list(calls)):
            machine.allocate(engine=name.startswith(OURS))
            calls[name]()  # so that nobody begins with the memory and the caches of another
            gc.collect()  # or pays for its cycles
            start = time.perf_counter(), time.process_time()
            calls[name]()
            end = time.perf_counter(), time.process_time()
            times[name]["wall"].append(1e3 * (end[0] - start[0]))
            times[name]["cpu"].append(1e3 * (end[1] - start[1]))
    gc.unfreeze()
    return times


def ratio(of: Sequence[float], to: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of the ratios round by round, and its 95 % bootstrap interval."""
    ratios = np.divide(of, to)
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(drawn, 1), [2.5, 97.5])
    return round(float(np.median(ratios)), 3), round(float(low), 3), round(float(high), 3)


def matmul(device: str) -> Callable[[], None]:
    """Return a call that makes `MATMUL_REPEATS` products of square float32 matrices."""
    size = MATMUL_SIZE[torch.device(device).type]
    a, b = torch.randn(2, size, size, device=device)
    out = torch.empty_like(a)

    def call() -> None:
        for _ in range(MATMUL_REPEATS):
            torch.mm(a, b, out=out)
        if out.is_cuda:
            torch.cuda.synchronize()

    return call


def summarize(times: Times, errors: dict[str, Errors], needed: int, size: int, clock: str) -> Any:
    """Turn the times of one workload into what is printed and kept.

    Args:
        needed: Multiply-adds of the step.
        size: Rows of the square matrices that the rate is measured with.
    """
    times = dict(times)
    product = float(np.median(times.pop(MATMUL)[clock])) / MATMUL_REPEATS
    floor = needed / size**3 * product
    base = OURS if OURS in times else next(iter(times))
    rows = {}
    for name, by_clock in times.items():
        middle = {f"{key} ms": round(float(np.median(by_clock[key])), 2) for key in by_clock}
        rows[name] = {
            "error": float(f"{errors[name].all:.1e}"),
            "error of the worst parameter": float(f"{errors[name].worst:.1e}"),
            "wrong": errors[name].are_wrong,
            **middle,
            "share of the matmul rate": round(floor / middle[f"{clock} ms"], 4),
            f"{base} is faster": ratio(by_clock[clock], times[base][clock]),
        }
    peers = [name for name in rows if not name.startswith(OURS) and not rows[name]["wrong"]]
    return {
        "multiply-adds": needed,
        "GFLOP/s of a matrix product": round(2 * size**3 / product / 1e6, 1),
        "floor, ms": round(floor, 2),
        "clock": clock,
        "rounds": len(next(iter(times.values()))["cpu"]),
        "best peer": min(peers, key=lambda n: rows[n][f"{base} is faster"]) if peers else None,
        "rows": rows,
    }


def show(workload: Workload, found: Any) -> None:
    family = TITLES[workload.name[:2]]
    order = "first order" if workload.first_order else "second order"
    print(f"\n{workload.name}: {family}; {workload.tasks} tasks, {workload.steps} steps, {order}")
    print(
        f"floor {found['floor, ms']} ms: {found['multiply-adds'] / 1e9:.3f} G multiply-adds at "
        f"{found['GFLOP/s of a matrix product']} GFLOP/s; {found['rounds']} rounds, "
        f"{found['clock']} clock"
    )
    print(f"{'':24}{'error':>9}{'CPU ms':>10}{'wall ms':>10}{'of rate':>9}   ours is faster")
    for name, row in found["rows"].items():
        share = 100 * row["share of the matmul rate"]
        middle, low, high = row[next(key for key in row if key.endswith("is faster"))]
        marks = " WRONG" if row["wrong"] else " best peer" if name == found["best peer"] else ""
        print(
            f"{name:24}{row['error']:9.0e}{row['cpu ms']:10.1f}{row['wall ms']:10.1f}{share:7.1f} %"
            f"   {middle:.2f} [{low:.2f}, {high:.2f}]{marks}",
            flush=True,
        )


def measure(
    workload: Workload, makers: dict[str, Make], options: argparse.Namespace
) -> dict[str, Any]:
    """Check, then time one workload."""
    compared = replace(workload, tasks=min(workload.tasks, options.check_tasks or workload.tasks))
    errors = check(makers, compared, options.device, options.seed)
    state = draw(workload, options.seed, device=options.device)
    calls = {name: make(workload, state).step for name, make in makers.items() if name in errors}
    calls[MATMUL] = matmul(options.device)
    times = interleave(calls, options.rounds, options.seconds, options.seed)
    on_one_core = options.device == "cpu" and options.threads == 1
    clock = options.clock or ("cpu" if on_one_core else "wall")
    size = MATMUL_SIZE[torch.device(options.device).type]
    return summarize(times, errors, multiply_adds(workload), size, clock)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="meta_step", description="Milliseconds of a whole meta-step, ours and others'."
    )
    found.add_argument(
        "--workloads",
        nargs="+",
        type=Workload.parse,
        metavar="NAME",
        default=[Workload.parse(name) for name in WORKLOADS],
        help=f"{' '.join(WORKLOADS)}, or others of that form; -fo: first order",
    )
    variants.add_arguments(found)
    found.add_argument("--rounds", type=int, default=15)
    found.add_argument("--seconds", type=float, default=300, help="most for a workload's rounds")
    found.add_argument(
        "--check-tasks", type=int, metavar="N", help="compare gradients on N tasks, not on all"
    )
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--device", default="cpu", help="cpu or cuda")
    found.add_argument("--tf32", action="store_true", help="on CUDA, for everyone")
    found.add_argument(
        "--clock",
        choices=["cpu", "wall"],
        help="of ratios and shares: cpu for one thread of a CPU, else wall",
    )
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--out", default="meta_step", help="name of the file of results")
    found.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    return found


def main(argv: Sequence[str]) -> dict[str, Any]:
    options = parser().parse_args(argv)
    machine.steady(options.threads, options.device, options.tf32)
    result: dict[str, Any] = {
        "command": machine.command(argv),
        "commit": commit(),
        "seed": options.seed,
        "machine": machine.describe(options.threads, options.device, options.tf32),
        "workloads": {},
    }
    print(json.dumps(result["machine"]))
    makers = variants.chosen(options)
    begin = time.perf_counter()
    for workload in options.workloads:
        found = measure(workload, makers, options)
        show(workload, found)
        result["workloads"][workload.name] = found
        result["seconds"] = round(time.perf_counter() - begin)
        options.results.mkdir(parents=True, exist_ok=True)
        # after each, so that a run that is cut short is not lost
        file = options.results / f"{options.out}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
    return result
