"""Degenerate data give a finite answer or an error of one line, and never hang.

Every case is a degenerate table (equal rows, fewer rows than clusters, constant columns, NaN, inf,
1e30, one class, no label, no row) and a distribution over tasks, a learner or an estimator; or a
distribution that cannot give a task: teachers that find one cluster or none, makers that do not
do as they are told, mixtures with an impossible part. Each runs in a forked child for 60 s at most.
It must answer with finite numbers, or raise a ValueError or TypeError that says what is wrong.
"""

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from degenerate_cases import cases
from forked import Outcome, run_forked
from report import Measurement, print_rows

from metalit.messages import explain

LIMIT = 60  # seconds


def judge(outcome: Outcome) -> str:
    """Return what is wrong with how a case ended; "" if nothing is."""
    if outcome.code is None:
        return f"still running after {LIMIT} s"
    if outcome.code < 0:
        return f"ended by signal {-outcome.code}"
    if outcome.code != 0:
        return f"crashed: {(outcome.complained.strip().splitlines() or ['?'])[-1]}"
    line = (outcome.said.strip().splitlines() or ["nothing was said"])[-1]
    if line.startswith("answered"):
        return "" if line == "answered" else line
    if "METALIT_DEBUG" in line or len(line) > 500 or len(line) < 20:
        return f"an error that says too little or too much: {line}"
    return ""


def run_case(number: int, folder: Path) -> Outcome:
    """Run one case in a child."""
    folder.mkdir()
    name, use = CASES[number]

    def child() -> None:
        warnings.simplefilter("ignore")
        try:
            outputs = use()
        except (ValueError, TypeError) as error:
            print(f"refused: {explain(error)}")
            return
        numbers = [part for part in outputs if np.asarray(part).dtype.kind == "f"]
        finite = all(np.isfinite(part).all() for part in numbers)
        print("answered" if finite else f"answered with NaN or infinity: {name}")

    return run_forked(child, folder, LIMIT)


CASES = list(cases())


def main(argv: list[str]) -> int:
    measurement = Measurement("degenerate", __doc__, count=len(CASES))
    measurement.parser.add_argument("--show", action="store_true", help="print every answer")
    options = measurement.parse(argv)
    # fewer than all are taken in equal steps, so that every kind is among them
    numbers = np.linspace(0, len(CASES) - 1, min(options.count, len(CASES))).round().astype(int)
    found: dict[str, Counter[str]] = {}
    broken, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as place:
        for number in numbers.tolist():
            name = CASES[number][0]
            outcome = run_case(number, Path(place) / str(number))
            problem = judge(outcome)
            answered = outcome.said.strip().startswith("answered")
            end = "broken" if problem else ("answered" if answered else "refused")
            found.setdefault(name.partition(":")[0], Counter())[end] += 1
            slowest = max(slowest, outcome.seconds)
            if problem:
                broken.append({"case": name, "problem": problem})
            if problem or options.show:
                print(f"{name}: {problem or outcome.said.strip()}")
    kinds = ("answered", "refused", "broken")
    print_rows(
        [("kind", *kinds), *((kind, *(c[end] for end in kinds)) for kind, c in found.items())]
    )
    result = {"cases": len(numbers), "slowest": round(slowest, 1), "kinds": found}
    return measurement.write({**result, "what broke": broken}, len(broken))


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
