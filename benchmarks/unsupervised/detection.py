"""Anomaly detection on the 21 classical tables of ADBench: learned, untrained and classical.

    METALIT_DATA=... python benchmarks/unsupervised/detection.py \
        [--weights SEED0.ckpt SEED1.ckpt ...] [--splits 3] [--rows 2000] [--only IForest]
        [--seeds 0 1 2]

Writes `benchmarks/results/unsupervised_detection.json` and `docs/unsupervised_detection.png`.
Rows of PyOD (ECOD, COPOD, CBLOF, HBOS, PCA) are there where PyOD is installed
(`benchmarks/requirements.txt`).

- A table of more than 2,000 rows is subsampled at random, anew for each split; columns are
  standardised by the rows that a detector is fitted on. A score is the AUROC, averaged over splits.
- "one-class": fitted on half of the normal rows, asked about the other half and all anomalies.
  "unsupervised": fitted on all rows without labels, and asked about the same.
- "learned" is `MetaDetector`, the mean of the AUROC of several training seeds, or of the weights
  that ship. "untrained" is the same pipeline before training: the plain mean of its calibrated
  scores. Only the difference of the two is learning.
- "ACR" and "OC-MAML" are meta-trained first, once a seed, on what `MetaDetector` is meta-trained on
  (`configs/detector_acr.yaml`, `configs/detector_oc_maml.yaml`). They meet a table as principal
  components of the context. Their untrained rows have as many random initial weights.
- "transductive": the query is judged as a set, so that its own distribution is known, which no
  classical row knows. It stands beside its own untrained control and is no default. In the
  unsupervised protocol there is nothing more to be known, and no such row.
- Seconds are of CPU time on one thread, as is the cost in "IForests": a detector's time over that
  of IForest on the same table, averaged over tables.
- Intervals are 95 % percentile bootstrap intervals over tables of the mean paired difference.
"""

import argparse
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from metalit.episodes import unlabelled
from metalit.estimators import MetaDetector
from metalit.tasks import PrincipalTasks
from metalit.tasks.principal import project

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, ROOT, commit, meta_train, untrained

Array = NDArray[Any]
Detector = Callable[[Array, Array | None], Array]  # (context, query or None for itself) -> scores
COLORS = {"classical": "tab:blue", "meta-trained": "tab:orange", "untrained": "tab:green"}
PROTOCOLS = ("one-class", "unsupervised")
BASELINES = {"ACR": "configs/detector_acr.yaml", "OC-MAML": "configs/detector_oc_maml.yaml"}

# detectors


def neighbours(k: int) -> Detector:
    """Distance to the k-th nearest row, as PyOD's KNN has it."""

    def score(context: Array, query: Array | None) -> Array:
        index = NearestNeighbors(n_neighbors=min(k, len(context) - 1)).fit(context)
        return index.kneighbors(query)[0][:, -1]

    return score


def lof(context: Array, query: Array | None) -> Array:
    size = min(20, len(context) - 1)
    if query is None:
        return -LocalOutlierFactor(size).fit(context).negative_outlier_factor_
    return -LocalOutlierFactor(size, novelty=True).fit(context).score_samples(query)


def sklearn_detector(make: Callable[[], Any]) -> Detector:
    def score(context: Array, query: Array | None) -> Array:
        return -make().fit(context).score_samples(context if query is None else query)

    return score


def pyod_detector(make: Callable[[], Any]) -> Detector:
    def score(context: Array, query: Array | None) -> Array:
        model = make().fit(context)
        scores = model.decision_scores_ if query is None else model.decision_function(query)
        return np.nan_to_num(scores)  # HBOS gives infinite scores

    return score


def meta(weights: str | None, transductive: bool = False) -> Detector:
    def score(context: Array, query: Array | None) -> Array:
        detector = MetaDetector(weights=weights, transductive=transductive).fit(context)
        return detector.decision_scores_ if query is None else -detector.score_samples(query)

    return score


def projected(learner: Any, tasks: PrincipalTasks) -> Detector:
    """A learner of one width, which meets tables as the tasks of its training have them."""

    def score(context: Array, query: Array | None) -> Array:
        rows = [torch.from_numpy(x).float() for x in (context, context if query is None else query)]
        support, asked = project(*rows, tasks.components, tasks.standardize)
        with torch.no_grad():
            scores: Array = learner.eval()(unlabelled(support), asked)[:, 0].numpy()
        return scores

    return score


def meta_trained(name: str, seeds: Sequence[int]) -> tuple[dict[str, Detector], list[float]]:
    """A baseline meta-trained once a seed, and with random weights; the seconds of training."""
    rows, took = {}, []
    for seed in seeds:
        model, data, seconds = meta_train(BASELINES[name], "--seed_everything", str(seed))
        print(f"{name}, seed {seed}: meta-trained in {seconds:.0f} s", flush=True)
        rows[f"{name} seed {seed}"] = projected(model.learner, data.tasks)
        rows[f"untrained {name} seed {seed}"] = projected(untrained(model, seed), data.tasks)
        took.append(round(seconds, 1))
    return rows, took


def classical() -> dict[str, Detector]:
    rows: dict[str, Detector] = {
        "KNN k=1": neighbours(1),
        "KNN k=5": neighbours(5),
        "KNN k=50": neighbours(50),
        "LOF": lof,
        "OCSVM": sklearn_detector(OneClassSVM),
        "IForest": sklearn_detector(lambda: IsolationForest(random_state=0)),
    }
    try:
        from pyod.models.cblof import CBLOF
        from pyod.models.copod import COPOD
        from pyod.models.ecod import ECOD
        from pyod.models.hbos import HBOS
        from pyod.models.pca import PCA
    except ImportError as error:
        print(f"without the rows of PyOD: {error}")
        return rows
    return {
        **rows,
        "ECOD": pyod_detector(ECOD),
        "COPOD": pyod_detector(COPOD),
        "CBLOF": pyod_detector(lambda: CBLOF(random_state=0)),
        "HBOS": pyod_detector(HBOS),
        "PCA": pyod_detector(PCA),
    }


# tables


def read(file: Path) -> tuple[Array, Array]:
    with np.load(file) as content:
        return np.asarray(content["X"], dtype=np.float64), content["y"].astype(np.int64)


def split(x: Array, y: Array, protocol: str, rows: int, seed: int) -> tuple[Array, Any, Array]:
    """Context, query (None for the context itself) and the labels of what is scored."""
    random = np.random.default_rng([seed, len(x), x.shape[1]])
    chosen = random.permutation(len(x))[:rows]
    if protocol == "unsupervised":
        return StandardScaler().fit_transform(x[chosen]), None, y[chosen]
    normal = random.permutation(chosen[y[chosen] == 0])
    half = len(normal) // 2
    asked = np.concatenate([normal[half:], chosen[y[chosen] == 1]])
    scaler = StandardScaler().fit(x[normal[:half]])
    return scaler.transform(x[normal[:half]]), scaler.transform(x[asked]), y[asked]


def measure(
    detectors: dict[str, Detector], files: Sequence[Path], protocol: str, rows: int, splits: int
) -> dict[str, dict[str, list[float]]]:
    """AUROC and CPU seconds of each detector on each table, averaged over splits."""
    found: dict[str, dict[str, list[float]]] = {
        name: {"auroc": [], "seconds": []} for name in detectors
    }
    for file in files:
        x, y = read(file)
        cuts = [split(x, y, protocol, rows, seed) for seed in range(splits)]
        for name, detector in detectors.items():
            areas, start = [], time.process_time()
            for context, query, labels in cuts:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # duplicates of LOF, bins of HBOS
                    areas.append(roc_auc_score(labels, detector(context, query)))
            found[name]["auroc"].append(float(np.mean(areas)))
            found[name]["seconds"].append((time.process_time() - start) / splits)
        print(protocol, file.stem, {n: round(v["auroc"][-1], 3) for n, v in found.items()})
    return found


# the report


def interval(values: Array) -> list[float]:
    random = np.random.default_rng(0)
    means = values[random.integers(len(values), size=(10_000, len(values)))].mean(axis=1)
    return np.quantile(means, [0.025, 0.975]).round(4).tolist()


def average_seeds(found: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """One row for all training seeds, which are named `... seed N`."""
    rows = {name: row for name, row in found.items() if " seed " not in name}
    names = [name.split(" seed ")[0] for name in found if " seed " in name]
    for name in dict.fromkeys(names):
        seeds = [row for other, row in found.items() if other.startswith(f"{name} seed ")]
        rows[name] = {
            key: np.mean([row[key] for row in seeds], axis=0).tolist() for key in seeds[0]
        }
    return rows


def compare(rows: dict[str, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Paired differences of meta-trained rows from their controls, of learned ones from others."""
    others = [name for name in rows if "learned" not in name and "untrained" not in name]
    compared = {
        "learned": ["untrained", *others],
        "learned, transductive": ["untrained, transductive", *others],
        **{name: [f"untrained {name}"] for name in BASELINES},
    }
    pairs = []
    for one in (name for name in compared if name in rows):
        for other in (name for name in compared[one] if name in rows):
            difference = np.array(rows[one]["auroc"]) - np.array(rows[other]["auroc"])
            pairs.append(
                {
                    "pair": f"{one} - {other}",
                    "mean": round(float(difference.mean()), 4),
                    "ci95": interval(difference),
                    "wins": int((difference > 0).sum()),
                    "losses": int((difference < 0).sum()),
                }
            )
    return pairs


def draw(result: dict[str, Any], file: Path) -> None:
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    for place, protocol in enumerate(p for p in PROTOCOLS if p in result):
        rows = sorted(result[protocol]["rows"].items(), key=lambda item: item[1]["mean"])
        axes = figure.add_subplot(1, 2, place + 1, title=protocol, xlabel="mean AUROC, 95 %")
        for height, (name, row) in enumerate(rows):
            kind = "meta-trained" if "learned" in name or name in BASELINES else "classical"
            color = COLORS["untrained" if "untrained" in name else kind]
            axes.plot(row["ci95"], [height, height], color=color, alpha=0.4, linewidth=3)
            axes.plot(row["mean"], height, "o", color=color)
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.grid(alpha=0.3)
    for kind, color in COLORS.items():
        axes.plot([], [], "o", color=color, label=kind)
    figure.legend(loc="outside lower center", ncols=len(COLORS))
    figure.savefig(file, dpi=130)


def summarise(rows: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    forests = rows["IForest"]["seconds"] if "IForest" in rows else np.full(1, np.nan)
    return {
        name: {
            "mean": round(float(np.mean(row["auroc"])), 4),
            "ci95": interval(np.array(row["auroc"])),
            "seconds": round(float(np.mean(row["seconds"])), 3),
            "iforests": round(float(np.mean(np.divide(row["seconds"], forests))), 2),
            "tables": np.round(row["auroc"], 4).tolist(),
        }
        for name, row in rows.items()
    }


def command(given: Sequence[str], options: argparse.Namespace) -> str:
    """What to call; where files lie means nothing on another machine."""
    places = {str(options.data): "$METALIT_DATA"}
    places |= {str(folder): "FOLDER" for folder in (options.results, options.figure)}
    places |= {file: f"SEED{i}.ckpt" for i, file in enumerate(options.weights) if "/" in file}
    call = ["METALIT_DATA=... python benchmarks/unsupervised/detection.py"]
    return " ".join(call + [places.get(part) or shlex.quote(part) for part in given])


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("METALIT_DATA"))
    parser.add_argument("--weights", nargs="*", default=["detector"], help="one a training seed")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="of a table")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    parser.add_argument("--only", nargs="*", help="of the rows beside the learned ones")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of ACR, OC-MAML")
    parser.add_argument("--tables", type=int, help="only so many, to try it out")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, default=ROOT / "docs")
    given = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(given)
    if options.data is None:
        parser.error("set METALIT_DATA or --data to the folder with adbench/classical")
    files = sorted((Path(options.data) / "adbench" / "classical").glob("*.npz"))[: options.tables]
    result: dict[str, Any] = {
        "command": command(given, options),
        "commit": commit(),
        "seconds_of_meta_training": {},
        "tables": [file.stem for file in files],
    }
    trained: dict[str, Detector] = {}
    for name in (name for name in BASELINES if not options.only or name in options.only):
        rows, result["seconds_of_meta_training"][name] = meta_trained(name, options.seeds)
        trained |= rows
    for protocol in options.protocols:
        detectors = classical()
        if options.only:
            detectors = {name: row for name, row in detectors.items() if name in options.only}
        detectors |= trained
        modes = (False, True) if protocol == "one-class" else (False,)
        for transductive in modes:
            suffix = ", transductive" if transductive else ""
            if not options.only or "untrained" in options.only:
                detectors[f"untrained{suffix}"] = meta(None, transductive)
            for seed, weights in enumerate(options.weights):
                detectors[f"learned{suffix} seed {seed}"] = meta(weights, transductive)
        found = measure(detectors, files, protocol, options.rows, options.splits)
        rows = average_seeds(found)
        result[protocol] = {
            "rows": summarise(rows),
            "seeds": {n: round(float(np.mean(r["auroc"])), 4) for n, r in found.items()},
            "differences": compare(rows),
        }
        show(protocol, result[protocol])
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "unsupervised_detection.json").write_text(json.dumps(result, indent=1))
    draw(result, options.figure / "unsupervised_detection.png")
    return result


def show(protocol: str, found: dict[str, Any]) -> None:
    print(f"\n{protocol}: mean AUROC [95 % interval], CPU seconds a table, in IForests")
    for name, row in sorted(found["rows"].items(), key=lambda item: -item[1]["mean"]):
        low, high = row["ci95"]
        cost = f"{row['seconds']:.2f} {row['iforests']:.1f}"
        print(f"{name:28} {row['mean']:.4f} [{low:.3f}, {high:.3f}] {cost}")
    for pair in found["differences"]:
        low, high = pair["ci95"]
        wins = f"{pair['wins']} wins, {pair['losses']} losses"
        print(f"{pair['pair']:45} {pair['mean']:+.4f} [{low:+.4f}, {high:+.4f}] {wins}")


if __name__ == "__main__":
    main()
