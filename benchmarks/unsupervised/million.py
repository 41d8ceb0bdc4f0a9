"""A million rows and 20 columns: seconds and peak memory of the estimators, and of classical ones.

    python benchmarks/unsupervised/million.py [NAME ...] [--rows 1000000] [--columns 20]

Each estimator runs in a process of its own on one thread: it is fitted on a million rows and
answers for them ("fit and own rows"), then for a million others ("new rows"). Memory is the largest
resident set of the process, both tables included. Prints a table and writes
`benchmarks/results/unsupervised_million.json`. Rows come from five Gaussian clusters, one in a
hundred is an outlier from a box around them; "score" is the adjusted Rand index with the clusters,
or the AUROC, of the new rows.
"""

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.ensemble import IsolationForest
from sklearn.metrics import adjusted_rand_score, roc_auc_score

from metalit.estimators import MetaClusterer, MetaDetector

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, commit

FILE = RESULTS / "unsupervised_million.json"
CLUSTERS = 5
OUTLIERS = 0.01
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "MetaDetector": MetaDetector,
    "MetaDetector, transductive": lambda: MetaDetector(transductive=True),
    "IsolationForest": lambda: IsolationForest(random_state=0),
    "MetaClusterer": lambda: MetaClusterer(CLUSTERS),
    "MetaClusterer, number of clusters estimated": MetaClusterer,
    "MiniBatchKMeans": lambda: MiniBatchKMeans(CLUSTERS, n_init=3, random_state=0),
}
GIB = 2**30


def draw(rows: int, columns: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and their clusters, -1 for outliers."""
    centres = np.random.default_rng(0).normal(scale=3, size=(CLUSTERS, columns))
    random = np.random.default_rng([1, seed])
    clusters = random.integers(CLUSTERS, size=rows)
    x = centres[clusters] + random.normal(size=(rows, columns))
    outliers = random.random(rows) < OUTLIERS
    x[outliers] = random.uniform(-8, 8, size=(int(outliers.sum()), columns))
    return x, np.where(outliers, -1, clusters)


def measure(name: str, rows: int, columns: int) -> dict[str, float]:
    """Fit one estimator and ask it about other rows."""
    x, _ = draw(rows, columns, 0)
    new, clusters = draw(rows, columns, 1)
    estimator = ESTIMATORS[name]()
    clusterer = hasattr(estimator, "fit_predict") and not hasattr(estimator, "score_samples")
    start = time.perf_counter(), time.process_time()
    estimator.fit(x)
    if clusterer:
        estimator.labels_.sum()
    elif hasattr(estimator, "decision_scores_"):
        estimator.decision_scores_.sum()
    else:
        estimator.decision_function(x)
    middle = time.perf_counter(), time.process_time()
    answers = estimator.predict(new) if clusterer else -estimator.decision_function(new)
    end = time.perf_counter(), time.process_time()
    inside = clusters >= 0
    score = (
        adjusted_rand_score(clusters[inside], answers[inside])
        if clusterer
        else roc_auc_score(~inside, answers)
    )
    return {
        "fit and own rows, s": round(middle[0] - start[0], 1),
        "new rows, s": round(end[0] - middle[0], 1),
        "fit and own rows, CPU s": round(middle[1] - start[1], 1),
        "new rows, CPU s": round(end[1] - middle[1], 1),
        "peak memory, GiB": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB, 2
        ),
        "score": round(float(score), 4),
    }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(ESTIMATORS))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--here", action="store_true", help="in this process, print JSON")
    given = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(given)
    unknown = sorted(set(options.names) - set(ESTIMATORS))
    if unknown:
        parser.error(f"{unknown[0]} is not measured: choose from {'; '.join(ESTIMATORS)}")
    names = options.names or list(ESTIMATORS)
    if options.here:
        for name in names:
            print(json.dumps(measure(name, options.rows, options.columns)))
        return {}
    result: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/unsupervised/million.py", *given]),
        "commit": commit(),
        "machine": platform.machine(),
        "rows": options.rows,
        "columns": options.columns,
    }
    for name in names:
        sizes = ["--rows", str(options.rows), "--columns", str(options.columns)]
        done = subprocess.run(
            [sys.executable, __file__, name, "--here", *sizes],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name:45}", result[name], flush=True)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
