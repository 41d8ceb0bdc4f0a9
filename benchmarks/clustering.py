"""Clustering, regression and detection by MAML: three seeds each, against the classical method.

    python benchmarks/clustering.py [NAME ...] [--seeds 0 1 2] [--KEY VALUE ...]

NAME is a config in `configs/`; without one all four are run, which takes about an hour of one core.
Everything else goes to `python -m metalit fit` and `test`. The seed is that of the initial weights,
of training and of the untrained baseline; all seeds train and are tested on the same episodes.
Prints one table a config and writes `benchmarks/results/NAME.json`.
"""

import argparse
import json
import statistics
import tempfile
from typing import Any

from accuracy import measure
from training import RESULTS

NAMES = ("blobs_clustering", "blobs_soft_k_means", "sinusoids", "outliers")


def run(name: str, seeds: list[int], rest: list[str]) -> dict[str, Any]:
    """Measure one config with every seed, in a folder that is thrown away."""
    runs = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["--seed_everything", str(seed), "--trainer.default_root_dir", folder]
            arguments += ["--trainer.callbacks.init_args.seed", str(seed)]
            arguments += ["--trainer.enable_progress_bar", "false", *rest]
            result = measure(f"configs/{name}.yaml", name, arguments)
        runs.append({key: result[key] for key in ("seed", "seconds_fit", "seconds_test", "scores")})
        runs[-1]["adaptation"] = result["adaptation"]
    command = f"python benchmarks/clustering.py {name} --seeds {' '.join(map(str, seeds))}"
    shared = ("name", "commit", "steps", "meta_batch_size", "test_episodes", "hardware", "torch")
    return {
        "command": " ".join([command, *rest]),
        **{key: result[key] for key in shared},
        "mean_over_seeds": _means([run["adaptation"] for run in runs]),
        "runs": runs,
    }


def _means(tables: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Mean over seeds of every cell and, of several, the standard deviation between them."""
    return {
        row: {step: _spread([table[row][step][0] for table in tables]) for step in cells}
        for row, cells in tables[0].items()
    }


def _spread(values: list[float]) -> list[float]:
    return [statistics.mean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options, rest = parser.parse_known_args()
    RESULTS.mkdir(exist_ok=True)
    for name in options.names:
        result = run(name, options.seeds, rest)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(f"\n{name}: mean ± deviation over seeds, after steps")
        for row, cells in result["mean_over_seeds"].items():
            texts = {step: " ± ".join(f"{v:.3f}" for v in cell) for step, cell in cells.items()}
            print(f"{row:26}", *(f"{step}: {text:15}" for step, text in texts.items()))


if __name__ == "__main__":
    main()
