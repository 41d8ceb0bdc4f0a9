"""Wrong configurations end in one line that names what is wrong, and in exit code 2.

Good configurations, those of `configs/` and of the tests, are changed in one place at random: a key
deleted or misspelt, a wrong type, class, file, size, device or option, YAML cut off or mangled.
Each must either run to its end, where the change was harmless, or end with exit code 2 and a last
line `metalit: error: ...` of less than 500 characters, without a traceback, from an error that is
expected, with the name of the option or its value. Each case runs in a forked child.
"""

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from bad_configs import Case, draw_case
from forked import Outcome, run_forked
from good_configs import bases, make_files
from report import Measurement, print_rows

import metalit.main  # noqa: F401 - so that no child has to
from metalit.__main__ import run

LIMIT = 60  # seconds
HUGE = ("1000000", "1e+30", "9223372036854775808", "inf")  # may take for ever, as asked


def judge(case: Case, outcome: Outcome) -> str:
    """Return what is wrong with how a case ended; "" if nothing is."""
    said = outcome.complained
    if outcome.code is None:
        huge = any(number in case.what for number in HUGE)
        return "" if huge else f"still running after {LIMIT} s"
    if outcome.code == 0:
        return "" if "metalit: error" not in said else "exit code 0 after an error"
    if outcome.code != 2:
        return f"exit code {outcome.code}"
    if "Traceback" in said + outcome.said:
        return "a traceback"
    last = said.splitlines()[-1] if said.strip() else ""
    if not last.startswith("metalit: error: ") or said.count("metalit: error: ") != 1:
        return "no line with the error at the end"
    if len(last) >= 500:
        return f"a line of {len(last)} characters"
    if "METALIT_DEBUG=1 shows where" in last:
        return "an unexpected error"
    lower = last.lower()
    if case.names and not any(name.lower() in lower for name in case.names):
        return f"none of {', '.join(case.names)} is named"
    return ""


def main(argv: list[str]) -> int:
    measurement = Measurement("fuzz", __doc__, count=500)
    measurement.parser.add_argument("--first", type=int, default=0, help="number of the first case")
    measurement.parser.add_argument("--show", action="store_true", help="print every last line")
    options = measurement.parse(argv)
    known, found, broken = bases(), Counter[str](), []
    kinds: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.first, options.first + options.count):
            case = draw_case(np.random.default_rng([options.seed, number]), known)
            outcome = run_case(case, Path(place) / str(number))
            problem = judge(case, outcome)
            ends = {0: "ran", 2: "refused", None: "ran on"}
            end = "broken" if problem else ends[outcome.code]
            found[end] += 1
            kinds.setdefault(case.kind, Counter())[end] += 1
            last = (outcome.complained.strip().splitlines() or [""])[-1]
            if problem:
                row = {"case": number, "base": case.base, "kind": case.kind, "what": case.what}
                broken.append({**row, "problem": problem, "last line": last[:600]})
            if problem or options.show:
                print(
                    f"{number}: {case.base}, {case.kind}, {case.what}: {problem or end}\n   {last}"
                )
    print_rows(
        [
            ("kind", "ran", "refused", "ran on", "broken"),
            *(
                (kind, *(counts[end] for end in ("ran", "refused", "ran on", "broken")))
                for kind, counts in sorted(kinds.items())
            ),
        ]
    )
    result = {"cases": options.count, **dict(found), "kinds": kinds, "what broke": broken}
    return measurement.write(result, len(broken))


def run_case(case: Case, folder: Path) -> Outcome:
    """Run `fit` with a case in a folder of its own."""
    folder.mkdir()
    make_files(folder)
    (folder / "case.yaml").write_bytes(case.config)

    def child() -> None:
        sys.argv = ["metalit", "fit", "--config", "case.yaml", *case.options]
        sys.argv += ["--trainer.default_root_dir=runs"] * ("default_root_dir" not in case.what)
        run()

    outcome = run_forked(child, folder, LIMIT)
    shutil.rmtree(folder, ignore_errors=True)  # 500 of them are many files
    return outcome


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
