"""Clustering 87 open tables: learned, untrained and classical, the number of clusters given or not.

    METALIT_DATA=... python benchmarks/unsupervised/clustering.py \
        [--weights SEED0.ckpt SEED1.ckpt ...] [--mixtures 100]

Writes `benchmarks/results/unsupervised_clustering.json` and `docs/unsupervised_clustering.png`.
Genie is a row where genieclust is installed (`benchmarks/requirements.txt`).

- Tables have standardised columns and at most 2,000 rows (a subsample seeded by the path). A score
  is the adjusted Rand index with the reference labelling that fits best; noise is not scored. The
  number of clusters is that of the first labelling.
- `tables` counts all 87 alike, `families` averages near-variants as one (`family_of`), `real` are
  the 13 tables that were measured, not drawn (gagolews/uci, deric/real).
- "learned" is the mean of the scores of several training seeds, or of the weights that ship.
  "untrained" is the same pipeline before training: Gaussian affinities, and the share of the
  classical partitions that put two rows together. Only the difference of the two is learning. No
  table of the benchmark is in the training (`configs/similarity.yaml`).
- "10 steps" takes unsupervised steps on the table first, with the weights of the first seed.
- Intervals are 95 % percentile bootstrap intervals over tables, of means or paired differences.
- `mixtures` are tables of `metalit.tables.mixtures.gaussian_mixture`, with another seed than any
  in training.
- Seconds are CPU seconds a table, on one thread.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.mixture import GaussianMixture

from metalit import MetaLearner
from metalit.episodes import unlabelled
from metalit.estimators._weights import load_learner
from metalit.estimators.meta_clusterer import INNER_LR
from metalit.inner_loops import GradientDescent
from metalit.learners import AmortizedClusterer, PairwiseSimilarity, SklearnClusterer
from metalit.metrics import reliability
from metalit.networks import PairNetwork
from metalit.partitions import Clustering
from metalit.tables import Plan
from metalit.tables.mixtures import gaussian_mixture

sys.path.insert(0, str(Path(__file__).parents[1]))
from clustering_data import Table, read_tables, standardise
from training import RESULTS, commit

Array = NDArray[Any]
REAL = ("gagolews/uci", "deric/real")
FIGURE = Path(__file__).parents[2] / "docs" / "unsupervised_clustering.png"
STEPS = 10

# what is compared


def classical(k: int) -> dict[str, SklearnClusterer]:
    """Clusterers with the settings a user would take, HDBSCAN's noise joined to the nearest."""
    rows = {
        "KMeans": KMeans(k, n_init=10),
        "Ward": AgglomerativeClustering(k),
        "average": AgglomerativeClustering(k, linkage="average"),
        "GMM": GaussianMixture(k, n_init=5),
        "spectral": SpectralClustering(k, affinity="nearest_neighbors"),
    }
    try:
        from genieclust import Genie

        rows["Genie"] = Genie(k)
    except ImportError:
        pass
    learners = {name: SklearnClusterer(clusterer) for name, clusterer in rows.items()}
    learners["HDBSCAN, not given k"] = SklearnClusterer(HDBSCAN(10, copy=True), noise="nearest")
    return learners


def untrained() -> PairwiseSimilarity:
    return PairwiseSimilarity(PairNetwork(hidden=8, blocks=1))


class Measured:
    """Scores, seconds and more of one method on all tables."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.seconds: list[float] = []
        self.confidence: list[float] = []
        self.numbers: list[int] = []

    def add(self, table: Table, labels: Array, seconds: float, confidence: float = np.nan) -> None:
        self.scores.append(table.score(labels)[1])
        self.seconds.append(seconds)
        self.confidence.append(confidence)
        self.numbers.append(len(np.unique(labels)))


def measure_learner(similarity: PairwiseSimilarity, tables: Sequence[Table], mode: str) -> Measured:
    """Cluster all tables with k given, not given ("k unknown") or after "10 steps"."""
    inner_loop = GradientDescent(lr=INNER_LR, steps=STEPS) if mode == f"{STEPS} steps" else None
    learner = AmortizedClusterer(similarity, inner_loop=inner_loop)
    measured = Measured()
    for table in tables:
        k = None if mode == "k unknown" else table.k
        support = unlabelled(torch.from_numpy(table.x), k)
        start = time.process_time()
        clustering: Clustering = learner.cluster(support)
        seconds = time.process_time() - start
        measured.add(table, clustering.labels, seconds, clustering.confidence)
    return measured


def measure_classical(name: str, tables: Sequence[Table]) -> Measured:
    measured = Measured()
    for table in tables:
        support = unlabelled(torch.from_numpy(table.x))
        start = time.process_time()
        labels = classical(table.k)[name](support, support.x).argmax(dim=1).numpy()
        measured.add(table, labels, time.process_time() - start)
    return measured


def averaged(runs: Sequence[Measured]) -> Measured:
    """The mean over training seeds, table by table."""
    mean = Measured()
    mean.scores = np.mean([run.scores for run in runs], axis=0).tolist()
    mean.seconds = np.mean([run.seconds for run in runs], axis=0).tolist()
    mean.confidence = np.mean([run.confidence for run in runs], axis=0).tolist()
    mean.numbers = runs[0].numbers
    return mean


def mixture_tables(number: int) -> list[Table]:
    """Tables that a mixture of Gaussians describes exactly."""
    tables = []
    for seed in range(number):
        random = np.random.default_rng([99, seed])
        k, d = int(random.integers(2, 11)), int(random.integers(2, 16))
        plan = Plan(int(random.integers(200, 1500)), k, d, float(random.uniform(0, 0.7)))
        x, y = gaussian_mixture(random, plan)
        tables.append(Table(f"mixture-{seed}", "mixtures", str(seed), standardise(x), [y]))
    return tables


# statistics


def interval(values: Array) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval."""
    values = np.asarray(values)
    draws = np.random.default_rng(0).integers(0, len(values), (4000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def by_family(tables: Sequence[Table], values: Sequence[float]) -> Array:
    families: dict[str, list[float]] = {}
    for table, value in zip(tables, values, strict=True):
        families.setdefault(table.family, []).append(value)
    return np.array([np.mean(of_family) for of_family in families.values()])


def paired(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    difference = np.array(one) - np.array(other)
    wins, losses = int((difference > 0.005).sum()), int((difference < -0.005).sum())
    return {"difference": interval(difference), "wins": wins, "losses": losses}


# the report


def summarise(tables: Sequence[Table], rows: dict[str, Measured]) -> dict[str, Any]:
    real = [number for number, table in enumerate(tables) if table.battery in REAL]
    return {
        name: {
            "tables": interval(np.array(row.scores)),
            "families": interval(by_family(tables, row.scores)),
            "real": float(np.mean(np.array(row.scores)[real])),
            "seconds": {
                "mean": float(np.mean(row.seconds)),
                "median": float(np.median(row.seconds)),
                "most": float(np.max(row.seconds)),
            },
            "scores": [round(score, 4) for score in row.scores],
        }
        for name, row in rows.items()
    }


def show(summary: dict[str, Any]) -> None:
    print(f"{'method':28} {'tables':>24} {'families':>24} {'real':>6} {'seconds':>8} {'median':>7}")
    for name, row in summary.items():
        cells = [
            f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in (row["tables"], row["families"])
        ]
        seconds = row["seconds"]
        print(
            f"{name:28} {cells[0]:>24} {cells[1]:>24} {row['real']:6.3f} "
            f"{seconds['mean']:8.3f} {seconds['median']:7.3f}"
        )


def draw(summary: dict[str, Any], points: list[Any]) -> None:
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    bars, curve = figure.subplots(1, 2, width_ratios=[2, 1])
    names = sorted(summary, key=lambda name: summary[name]["tables"][0])
    for place, name in enumerate(names):
        mean, low, high = summary[name]["tables"]
        colour = "C3" if name.startswith("learned") else "C1" if "untrained" in name else "0.6"
        bars.barh(place, mean, color=colour)
        bars.plot([low, high], [place, place], color="black", linewidth=1)
    bars.set_yticks(range(len(names)), names)
    bars.set_xlabel("mean adjusted Rand index over 87 tables, 95 % interval")
    bars.set_xlim(0.4, 0.85)
    curve.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    curve.plot(*np.array(points).T, "o-", color="C3")
    curve.set_xlabel("confidence (expected index)")
    curve.set_ylabel("adjusted Rand index")
    curve.set_title("six groups of tables", fontsize=10)
    figure.savefig(FIGURE, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="*", default=[], help="checkpoints of several seeds")
    parser.add_argument("--mixtures", type=int, default=100)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    at, start = commit(), time.time()
    tables = read_tables(Path(os.environ["METALIT_DATA"]) / "clustering")
    trained = [
        MetaLearner.load_from_checkpoint(path).learner.eval() for path in arguments.weights
    ] or [load_learner("clusterer")]
    rows = {name: measure_classical(name, tables) for name in classical(2)}
    modes: dict[str, str] = {
        "": "k given",
        ", k unknown": "k unknown",
    }
    seeds: dict[str, list[list[float]]] = {}
    for suffix, mode in modes.items():
        rows[f"untrained{suffix}"] = measure_learner(untrained(), tables, mode)
        runs = [measure_learner(similarity, tables, mode) for similarity in trained]
        rows[f"learned{suffix}"] = averaged(runs)
        seeds[mode] = [float(np.mean(run.scores)) for run in runs]
        if not suffix:
            rows["learned, first seed"] = runs[0]
    stepped = f"learned, first seed, {STEPS} steps"
    rows[stepped] = measure_learner(trained[0], tables, f"{STEPS} steps")
    best = np.max([rows[name].scores for name in classical(2)], axis=0)
    summary = summarise(tables, rows)
    show(summary)
    scores = {name: row.scores for name, row in rows.items()}
    differences = {
        f"{one} - {other}": paired(scores[one], scores[other])
        for one, others in (
            ("learned", [*classical(2), "untrained"]),
            ("learned, k unknown", ["HDBSCAN, not given k", "untrained, k unknown"]),
            (stepped, ["learned, first seed"]),
        )
        for other in others
    }
    for name, value in differences.items():
        mean, low, high = value["difference"]
        print(f"{name:50} {mean:+.3f} [{low:+.3f}, {high:+.3f}]  {value['wins']}-{value['losses']}")
    mixtures = mixture_tables(arguments.mixtures)
    on_mixtures = {
        "GMM": float(np.mean(measure_classical("GMM", mixtures).scores)),
        "untrained": float(np.mean(measure_learner(untrained(), mixtures, "k given").scores)),
        "learned": float(
            np.mean([measure_learner(s, mixtures, "k given").scores for s in trained])
        ),
    }
    learned = rows["learned"]
    curve = reliability(np.array(learned.confidence), np.array(learned.scores))
    points = np.column_stack([curve.confidence, curve.score]).tolist()
    error = np.abs(np.array(rows["learned, k unknown"].numbers) - [table.k for table in tables])
    print(f"on {len(mixtures)} mixtures of Gaussians:", on_mixtures)
    print(f"best of the classical ones by hindsight {best.mean():.3f}; seeds {seeds}")
    print(f"k unknown: right on {(error == 0).mean():.2f} of the tables, off by {error.mean():.2f}")
    draw(summary, points)
    content = {
        # checkpoints by their place: where they lie means nothing on another machine
        "command": " ".join(
            ["python benchmarks/unsupervised/clustering.py"]
            + ["--weights"] * bool(arguments.weights)
            + [f"SEED{place}.ckpt" for place in range(len(arguments.weights))]
            + [f"--mixtures {arguments.mixtures}"]
        ),
        "commit": at,
        "seconds": time.time() - start,
        "cpus": os.cpu_count(),
        "tables": [f"{table.battery}/{table.name}" for table in tables],
        "rows": summary,
        "differences": differences,
        "seeds": seeds,
        "hindsight": float(best.mean()),
        "mixtures": on_mixtures,
        "reliability": points,
        "k_unknown": {"right": float((error == 0).mean()), "off_by": float(error.mean())},
    }
    (RESULTS / "unsupervised_clustering.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
