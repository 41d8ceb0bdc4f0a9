"""Every table of meta-unsupervised learning, one after another.

    METALIT_DATA=... python benchmarks/unsupervised [clustering detection omniglot ...]

Without names all are measured; each module runs alone too, and says in its first lines what it
writes. Options of a module are given to it alone: `python benchmarks/unsupervised/clustering.py
--weights ...`.
"""

import argparse
import importlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODULES))
    names = parser.parse_args().names or MODULES
    unknown = sorted(set(names) - set(MODULES))
    if unknown:
        parser.error(f"{', '.join(unknown)} is no benchmark: choose from {', '.join(MODULES)}")
    for name in names:
        # before each, since a module puts the folder above in front, which has other clustering.py
        sys.path.insert(0, str(FOLDER))
        print(f"\n== {name}")
        importlib.import_module(name).main([])


if __name__ == "__main__":
    main()
