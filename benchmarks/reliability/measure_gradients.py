"""Compares the meta-gradient of every learner in two processes with that in one.

One meta-step of 8 episodes each, in float32 and in float64. "largest" is the largest absolute
difference of any entry; "relative" is the norm of the difference over that of the gradient. The
promise is that the largest is at most 1e-6 in float32, and that the ranks agree bit for bit. What
is left is rounding, since 4 tasks at once are summed in another order than 8: in float64 it must
be a hundred million times smaller.
"""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from report import Measurement, print_rows

SCRIPT = Path(__file__).with_name("gradient_cases.py")
LARGEST = {"32-true": 1e-6, "64-true": 1e-14}
Gradients = dict[str, dict[str, torch.Tensor]]


def main(argv: Sequence[str]) -> int:
    """Run all cases."""
    measurement = Measurement("gradients", __doc__, 1000)
    measurement.parser.add_argument("--processes", type=int, default=2)
    options = measurement.parse(argv)
    from gradient_cases import CASES

    names = list(CASES)[: options.count]
    (alone,), ranks = take_steps(names, 1), take_steps(names, options.processes)
    rows = {case: compare(alone[case], [rank[case] for rank in ranks]) for case in alone}
    table = [["case", "largest", "relative", "ranks agree"]]
    for case, row in rows.items():
        table.append([case, f"{row['largest']:.1e}", f"{row['relative']:.1e}", row["ranks agree"]])
    print_rows(table)
    broken = sum(
        not (row["ranks agree"] and row["largest"] <= LARGEST[case.rpartition(", ")[2]])
        for case, row in rows.items()
    )
    return measurement.write({"processes": options.processes, "cases": rows}, broken)


def take_steps(names: Sequence[str], processes: int) -> list[Gradients]:
    """Take one meta-step of each case in new processes, and return the gradients of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "CASES": ",".join(names), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(SCRIPT), folder]
        running = [
            subprocess.Popen(
                [*words, str(rank), str(processes), str(port)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(processes)
        ]
        said = [each.communicate(timeout=1200)[0] for each in running]
        if any(each.returncode for each in running):
            raise RuntimeError("\n".join(said))
        return [
            torch.load(Path(folder) / f"{processes}_{rank}.pt", weights_only=True)
            for rank in range(processes)
        ]


def compare(
    alone: dict[str, torch.Tensor], ranks: list[dict[str, torch.Tensor]]
) -> dict[str, float | bool]:
    """Compare the gradients of one case."""
    agree = all(each.keys() == alone.keys() for each in ranks) and all(
        torch.equal(value, rank[name]) for rank in ranks for name, value in ranks[0].items()
    )
    whole, shared = (torch.cat([g.flatten() for g in each.values()]) for each in (alone, ranks[0]))
    difference = shared - whole
    return {
        "parameters": len(whole),
        "largest": difference.abs().max().item(),
        "relative": (difference.norm() / whole.norm()).item(),
        "norm": whole.norm().item(),
        "ranks agree": agree,
    }
