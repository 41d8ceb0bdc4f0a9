"""Whether a run can be lost: every promise of docs/reliability.md, as often as you like.

    python benchmarks/reliability NAME [--count N] [--seed S] [other options of NAME]
    python benchmarks/reliability            all, with the counts of the table in the docs

Each module says in its first lines what it does, prints a table and writes
`benchmarks/results/reliability_NAME.json`. The exit code is 1 where a promise was broken.
"""

import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("measure_*.py"))
NAMES = [module.removeprefix("measure_") for module in MODULES]


def main() -> int:
    names, options = sys.argv[1:2] or NAMES, sys.argv[2:]
    if names == ["--help"] or not set(names) <= set(NAMES):
        print(f"{__doc__}\nNAME is one of {', '.join(NAMES)}.")
        return 0 if names == ["--help"] else 2
    sys.path.insert(0, str(FOLDER))
    broken = 0
    for name in names:
        print(f"\n== {name}")
        broken += importlib.import_module(f"measure_{name}").main(options)
    return min(1, broken)


if __name__ == "__main__":
    sys.exit(main())
