"""Time and memory of one whole meta-step (adapt, outer backward, Adam), ours beside others.

    python benchmarks/meta_step [OPTION ...]          milliseconds, see timing.py
    python benchmarks/meta_step memory [OPTION ...]   peak memory by inner steps, see memory.py
    python benchmarks/meta_step scaling [OPTION ...]  one process and two, see scaling.py

Peers (`pip install -r benchmarks/requirements.txt`) that are not installed are left out.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # `python FOLDER` puts the folder itself there


def main() -> None:
    arguments = sys.argv[1:]
    name = "timing"
    if arguments and arguments[0] in ("timing", "memory", "scaling"):
        name, *arguments = arguments
    importlib.import_module(f"meta_step.{name}").main(arguments)


if __name__ == "__main__":
    main()
