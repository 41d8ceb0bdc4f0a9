"""Unsupervised inner losses of MAML side by side: meta-trained against untrained.

    python benchmarks/objectives.py [NAME ...]

Takes about 2 minutes of one core for each objective, 25 for all. Each is a run of one of three
configs with the inner loss, and what goes with it, changed behind it; the episodes are the same for
all objectives of a group. Prints a table and writes `benchmarks/results/objectives.json`: the score
after 0, 1, 5 and 10 inner steps from meta-trained and from random weights, with 95 % confidence
intervals over the test episodes, the command, commit and seed of each. Rows of objectives that are
not named are kept.
"""

import argparse
import json
from typing import Any

from accuracy import measure
from training import RESULTS

BLOBS, OUTLIERS, SVDD = (
    f"configs/{name}.yaml"
    for name in ("blobs_objectives", "outliers_objectives", "outliers_deep_svdd")
)
LEARNER = "--model.init_args.learner"
INNER = f"{LEARNER}.init_args.inner_loss"
WRAPPED = f"{LEARNER}.init_args.learner.init_args.inner_loss"
ENCODER = {"class_path": "MLP", "init_args": {"in_features": 10, "hidden": 32, "out_features": 8}}
CENTROIDS = {"encoder": ENCODER, "features": 8, "clusters": 3}
IMSAT = {"class_path": "MutualInformation", "init_args": {"marginal": 4.0, "consistency": 1.0}}
SELF_SUPERVISED = {
    "class_path": "SelfSupervised",
    "init_args": {
        "pretext": {"class_path": "TwoViews", "init_args": {"noise": 0.1}},
        "learner": {
            "class_path": "MAML",
            "init_args": {
                "network": {"class_path": "Centroids", "init_args": CENTROIDS},
                "inner_loop": {
                    "class_path": "GradientDescent",
                    "init_args": {"lr": 0.1, "steps": 5},
                },
                "inner_loss": IMSAT,
            },
        },
    },
}
AUTOENCODER = {
    "class_path": "ReconstructionError",
    "init_args": {
        "autoencoder": {
            "class_path": "MLP",
            "init_args": {"in_features": 10, "hidden": [64, 4, 64], "out_features": 10},
        }
    },
}
RUNS: dict[str, tuple[str, list[str]]] = {
    "mutual information (RIM)": (BLOBS, []),
    "with two views (IMSAT)": (BLOBS, [f"{LEARNER}={json.dumps(SELF_SUPERVISED)}"]),
    # at lr=0.1 outer gradients reach hundreds, and the clusters merge for good
    "DEC": (BLOBS, [f"{INNER}=DEC", f"{LEARNER}.init_args.inner_loop.init_args.lr=0.03"]),
    "DEC, inner steps of 0.1": (BLOBS, [f"{INNER}=DEC"]),
    "soft k-means": (BLOBS, [f"{INNER}=SoftKMeans", f"{INNER}.init_args.balance=3.0"]),
    "deep k-means": (
        BLOBS,
        [f"{INNER}=DeepKMeans", f"{LEARNER}.init_args.network.init_args.freedom=.inf"],
    ),
    "outlier exposure": (OUTLIERS, []),
    "outlier exposure, shuffled columns": (
        OUTLIERS,
        [f"{LEARNER}.init_args.pretext=ShuffledColumns"],
    ),
    "density ratio, uLSIF": (OUTLIERS, [f"{WRAPPED}=DensityRatio"]),
    "density ratio, KLIEP": (
        OUTLIERS,
        [f"{WRAPPED}=DensityRatio", f"{WRAPPED}.init_args.power=0.0"],
    ),
    "Deep SVDD": (SVDD, []),
    "Deep SVDD, soft boundary": (SVDD, [f"{INNER}.init_args.nu=0.1"]),
    "reconstruction": (
        SVDD,
        [
            f"{LEARNER}.init_args.network={json.dumps(AUTOENCODER)}",
            f"{LEARNER}.init_args.adapt=autoencoder.*",
        ],
    ),
}


def show(rows: dict[str, Any]) -> None:
    for name, row in rows.items():
        print(name, f"({row['seconds_fit']:.0f} s)")
        for start, scores in row["adaptation"].items():
            cells = (f"{step}: {100 * m:.1f} ± {100 * ci:.1f}" for step, (m, ci) in scores.items())
            print(f"  {start:14}", "   ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(RUNS)}; all if none is given")
    names = parser.parse_args().names or list(RUNS)
    file = RESULTS / "objectives.json"
    rows = json.loads(file.read_text()) if file.is_file() else {}
    for name in names:
        config, overrides = RUNS[name]
        rows[name] = measure(config, name, overrides)
        rows[name]["command"] = f"python benchmarks/objectives.py '{name}'"
        rows = {known: rows[known] for known in RUNS if known in rows}
        file.write_text(json.dumps(rows, indent=2) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
