"""Clusterers and their super learner on 87 open tables, the number of clusters given.

    METALIT_DATA=... python benchmarks/clustering_tables.py [--cache FOLDER] [--seeds 0 1 2]

Takes 5 to 10 minutes of one core; what the clusterers found is kept in `--cache` and taken from
there by a later or resumed run. Prints a table; writes `benchmarks/results/clustering_tables.json`
and `docs/clustering_tables.png`. Genie is a row where genieclust is installed. With `--ship` the
gate that learned on synthetic tables only becomes that of `SuperLearnerClusterer`.

- Tables have standardised columns and at most 2,000 rows (a subsample seeded by the path). The
  truth is `labels0`, whose number of clusters is given to all but HDBSCAN; rows that gagolews
  marks as noise are clustered but not scored. A score is the adjusted Rand index (ARI).
- `families` averages near-variants as one (see `family_of`), with a bootstrap interval over
  families; `tables` counts all 87 alike; `any_truth` takes the best of a table's labellings.
- The super learner is `Consensus` over `base_learners`. "equal" and "rule" have learned nothing;
  "learned" adds a `Gate` that was meta-trained on all other batteries and, with the same weight,
  on synthetic tables; three seeds are averaged. Only "learned" minus "rule" is learning. What the
  landmarks, the rule and the settings of training are was chosen with these tables in view; the
  weights of a gate never saw the battery that it is scored on.
- "pseudo-labels of X" is `UnsupervisedMetaLearner` around X with a quadratic discriminant.
"""

import argparse
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import sklearn
import torch
from clustering_data import ROWS, Array, Table, family_of, read_tables, synthetic_table
from matplotlib.figure import Figure
from sklearn.cluster import HDBSCAN
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from training import RESULTS, commit

from metalit import Samples
from metalit.combinations import Gate
from metalit.combinations.base import Evidence
from metalit.combinations.consensus import Consensus, apply_rule
from metalit.descriptors import DESCRIPTORS, describe_task
from metalit.episodes import unlabelled
from metalit.estimators.super_clusterer import GATE, default_clusterers
from metalit.hyperparameters import describe
from metalit.learners import (
    Learner,
    SklearnClassifier,
    SklearnClusterer,
    UnsupervisedMetaLearner,
)
from metalit.scikit import size_parameter

ALIGNMENTS = ("select", "hungarian", "coassociation")
SHARPNESS = 2.0
REFINED = ("KMeans", "GMM", "spectral")  # the clusterers that pseudo-labels come from

# clusterers


def base_learners(k: int) -> dict[str, Learner]:
    """What the super learner combines."""
    return {
        name: SklearnClusterer(
            clusterer, n_clusters=k if size_parameter(clusterer) else None, noise="nearest"
        )
        for name, clusterer in default_clusterers(ROWS)
    }


def references(k: int) -> dict[str, Learner]:
    """What is compared but not combined; a row more is a line more."""
    rows: dict[str, Learner] = {
        "HDBSCAN, noise a cluster": SklearnClusterer(HDBSCAN(10, copy=True)),
        **{f"pseudo-labels of {name}": refined(base_learners(k)[name], k) for name in REFINED},
    }
    try:
        from genieclust import Genie  # optional: pip install genieclust
    except ImportError:
        return rows
    return {**rows, "Genie": SklearnClusterer(Genie(), n_clusters=k)}


def refined(clusterer: Learner, k: int) -> Learner:
    """The pseudo-label learner around a clusterer, as `PseudoLabelClusterer` has it by default."""
    discriminant = SklearnClassifier(QuadraticDiscriminantAnalysis(reg_param=0.01))
    return UnsupervisedMetaLearner(discriminant, clusterer=clusterer.estimator, n_clusters=k)


class Remembered(Learner):
    """A learner whose fits are kept on disk."""

    def __init__(self, learner: Learner, memory: joblib.Memory) -> None:
        super().__init__()
        self.learner = learner
        self.learn_once = memory.cache(_learn, ignore=["learner"])

    def forward(self, support: Samples, query: torch.Tensor) -> torch.Tensor:
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.learn_once(describe(self.learner), support.x.numpy(), learner=self.learner)


def _learn(description: Any, table: Array, learner: Learner) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a graph in pieces, no cluster found
        return learner.learn(unlabelled(torch.from_numpy(table)))


# the super learner


@dataclass(frozen=True)
class Task:
    """What the super learner sees of a table, and the ARI of each base learner's partition."""

    table: Table
    evidence: Evidence
    descriptors: torch.Tensor
    scores: torch.Tensor


def observe(table: Table, memory: joblib.Memory) -> Task:
    learners = {n: Remembered(learner, memory) for n, learner in base_learners(table.k).items()}
    support = unlabelled(torch.from_numpy(table.x))
    evidence = Consensus().observe(learners, support)
    labels = evidence.outputs.argmax(dim=2).numpy()
    scores = torch.tensor([table.score(of_learner)[0] for of_learner in labels])
    return Task(table, evidence, describe_task(support).float(), scores)


def train_gate(tasks: list[Task], weights: Array, seed: int) -> Gate:
    """Meta-train a gate: minimise the expected 1 - ARI of a partition drawn by the weights."""
    torch.manual_seed(seed)
    descriptors = torch.stack([task.descriptors for task in tasks])
    landmarks = torch.stack([task.evidence.landmarks for task in tasks]).float()  # [tasks, K, L]
    rule = torch.stack([apply_rule(of_task, SHARPNESS) for of_task in landmarks])
    scores = torch.stack([task.scores for task in tasks])
    share = torch.from_numpy(weights / weights.sum()).float()
    gate = Gate(landmarks.shape[1], len(DESCRIPTORS), Consensus.n_landmarks)
    optimizer = torch.optim.AdamW(gate.parameters(), lr=0.02, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200)
    for _ in range(200):
        logits = torch.func.vmap(gate)(descriptors, landmarks) + rule
        loss = share @ (1 - (logits.softmax(dim=1) * scores).sum(dim=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return gate


def ship(gate: Gate, how: str) -> None:
    """Write a gate to where `SuperLearnerClusterer` reads it, with what it was trained on."""
    state = {name: value.tolist() for name, value in gate.state_dict().items()}
    content = {"command": "python benchmarks/clustering_tables.py --ship", "how": how}
    Path(str(GATE)).write_text(json.dumps({**content, "state": state}) + "\n")


def answer(task: Task, alignment: str, sharpness: float, gate: Gate | None = None) -> Array:
    """Return the clusters that the super learner gives the rows."""
    combination = Consensus(alignment=alignment, sharpness=sharpness)
    support, landmarks = unlabelled(torch.from_numpy(task.table.x)), task.evidence.landmarks
    names = list(base_learners(task.table.k))
    with torch.no_grad():
        prior = landmarks.new_zeros(len(landmarks))
        if gate is not None:
            prior = gate(task.descriptors, landmarks.float()).double()
        weighting = combination.weigh(names, task.evidence, support, prior)
        return combination.answer(task.evidence, weighting, support.x).argmax(dim=1).numpy()


def mass(tasks: list[Task]) -> Array:
    """Weight of each task in training: the root of its family's size is shared by the family."""
    families = [task.table.family for task in tasks]
    weights = np.array([families.count(family) ** -0.5 for family in families])
    return weights / weights.sum()


def learned_rows(
    tasks: list[Task], synthetic: list[Task], seeds: list[int]
) -> dict[str, list[tuple[float, float]]]:
    """Score the super learner on each table by gates that never saw its battery."""
    rows: dict[str, list[Any]] = {}
    for held_out in sorted({task.table.battery for task in tasks}):
        others = [task for task in tasks if task.table.battery != held_out]
        weights = np.concatenate([mass(others), mass(synthetic)])
        gates = [train_gate([*others, *synthetic], weights, seed) for seed in seeds]
        only = [train_gate(synthetic, mass(synthetic), seed) for seed in seeds]
        for number, task in enumerate(tasks):
            if task.table.battery != held_out:
                continue
            for name, alignment, trained in (
                *((f"{alignment}, learned", alignment, gates) for alignment in ALIGNMENTS),
                ("select, learned on synthetic tables only", "select", only),
            ):
                answers = [answer(task, alignment, SHARPNESS, gate) for gate in trained]
                scores = np.mean([task.table.score(labels) for labels in answers], axis=0)
                rows.setdefault(name, [None] * len(tasks))[number] = tuple(scores)
    return rows


def score_rows(
    tasks: list[Task], synthetic: list[Task], seeds: list[int], memory: joblib.Memory
) -> dict[str, list[tuple[float, float]]]:
    """Score every row on every table: ARI with the truth, and with the labelling that fits best."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for task in tasks:
        table, support = task.table, unlabelled(torch.from_numpy(task.table.x))
        for name, learner in {**base_learners(table.k), **references(table.k)}.items():
            labels = Remembered(learner, memory).learn(support)(support.x).argmax(dim=1).numpy()
            rows.setdefault(name, []).append(table.score(labels))
        best = [rows[name][-1] for name in base_learners(table.k)]
        rows.setdefault("best base learner by hindsight", []).append(
            (max(score for score, _ in best), max(score for _, score in best))
        )
        for alignment in ALIGNMENTS:
            for name, sharpness in (("equal", 0.0), ("rule", SHARPNESS)):
                if (alignment, name) != ("select", "equal"):  # which selects nothing
                    scores = table.score(answer(task, alignment, sharpness))
                    rows.setdefault(f"{alignment}, {name}", []).append(scores)
    return {**rows, **learned_rows(tasks, synthetic, seeds)}


# the report


def summarise(values: Array, tables: list[Table]) -> tuple[float, list[float]]:
    """Mean over families and its 95 % bootstrap interval over families."""
    families = sorted({table.family for table in tables})
    means = np.array(
        [np.mean([v for v, t in zip(values, tables, strict=True) if t.family == family])
         for family in families]
    )  # fmt: skip
    random = np.random.default_rng(0)
    draws = means[random.integers(len(means), size=(10_000, len(means)))].mean(axis=1)
    return float(means.mean()), np.quantile(draws, [0.025, 0.975]).tolist()


def report(
    rows: Mapping[str, list[tuple[float, float]]], tables: list[Table]
) -> dict[str, dict[str, Any]]:
    """Families with their interval, tables, and each battery (over its families), for each row."""
    batteries = {table.battery: [] for table in tables}
    for number, table in enumerate(tables):
        batteries[table.battery].append(number)
    result = {}
    for name, scores in rows.items():
        values, any_truth = np.array(scores).T
        mean, interval = summarise(values, tables)
        result[name] = {
            "families": round(mean, 4),
            "ci95": [round(end, 4) for end in interval],
            "tables": round(float(values.mean()), 4),
            "any_truth": round(float(any_truth.mean()), 4),
            "batteries": {
                battery: round(summarise(values[inside], [tables[i] for i in inside])[0], 4)
                for battery, inside in batteries.items()
            },
        }
    return result


def compare(
    rows: Mapping[str, list[tuple[float, float]]], tables: list[Table]
) -> dict[str, dict[str, Any]]:
    """Paired differences: what was learned, and what is won over the best clusterer."""
    values = {name: np.array(scores)[:, 0] for name, scores in rows.items()}
    known = {**base_learners(2), **references(2)}
    clusterers = [name for name in rows if name in known and not name.startswith("pseudo")]
    best = max(clusterers, key=lambda name: summarise(values[name], tables)[0])
    pairs = [(f"{alignment}, learned", f"{alignment}, rule") for alignment in ALIGNMENTS]
    pairs += [(name, best) for name in ("select, rule", "select, learned")]
    pairs += [(f"pseudo-labels of {name}", name) for name in REFINED]
    pairs += [("select, learned on synthetic tables only", "select, rule")]
    result = {}
    for one, other in pairs:
        difference = values[one] - values[other]
        mean, interval = summarise(difference, tables)
        result[f"{one} - {other}"] = {
            "families": round(mean, 4),
            "ci95": [round(end, 4) for end in interval],
            "tables": round(float(difference.mean()), 4),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, help="folder that keeps what clusterers found")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the gates")
    parser.add_argument("--synthetic", type=int, default=400, help="number of synthetic tables")
    parser.add_argument(
        "--ship", action="store_true", help="write the gate of the first seed into the package"
    )
    options = parser.parse_args()
    begin, at = time.perf_counter(), commit()
    torch.set_num_threads(1)
    memory = joblib.Memory(options.cache, verbose=0)
    tables = read_tables(Path(os.environ["METALIT_DATA"]) / "clustering")
    tasks = [observe(table, memory) for table in tables]
    synthetic = [observe(synthetic_table(i), memory) for i in range(options.synthetic)]
    if options.ship:
        gate = train_gate(synthetic, mass(synthetic), options.seeds[0])
        ship(gate, f"{at}, {options.synthetic} synthetic tables, seed {options.seeds[0]}")
    rows = score_rows(tasks, synthetic, options.seeds, memory)
    result = {
        "command": f"python benchmarks/clustering_tables.py --synthetic {options.synthetic} "
        f"--seeds {' '.join(map(str, options.seeds))}",
        "commit": at,
        "seeds": options.seeds,
        "seconds": round(time.perf_counter() - begin),
        "cache": options.cache is not None,
        "hardware": f"{platform.machine()}, 1 thread of {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__},
        "protocol": [line.strip() for line in __doc__.split("- ", 1)[1].splitlines()],
        "families_rule": family_of.__doc__,
        "rows": report(rows, tables),
        "differences": compare(rows, tables),
        "ari": {
            f"{table.battery}/{table.name}": {n: round(rows[n][i][0], 4) for n in rows}
            for i, table in enumerate(tables)
        },
        "families": {
            family: [t.name for t in tables if t.family == family]
            for family in sorted({table.family for table in tables})
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "clustering_tables.json").write_text(json.dumps(result, indent=2) + "\n")
    draw(result, RESULTS.parents[1] / "docs" / "clustering_tables.png")
    show(result)


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw the mean over families, with its interval, of each row, the best at the top."""
    rows = sorted(result["rows"].items(), key=lambda item: item[1]["families"])
    figure = Figure(figsize=(7.5, 0.27 * len(rows) + 0.8), layout="constrained")
    axes = figure.add_subplot(xlabel="mean adjusted Rand index over families, 95 % interval")
    for place, (name, row) in enumerate(rows):
        color = "tab:gray" if "hindsight" in name else "tab:blue"
        color = "tab:orange" if "learned" in name else "tab:green" if "pseudo" in name else color
        low, high = row["ci95"]
        axes.plot([low, high], [place, place], color=color, alpha=0.4, linewidth=3)
        axes.plot(row["families"], place, "o", color=color)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=130)


def show(result: Mapping[str, Any]) -> None:
    batteries = list(next(iter(result["rows"].values()))["batteries"])
    print(f"{'mean ARI':42} families [95 % interval]  tables  any truth ", *batteries)
    for name, row in result["rows"].items():
        cells = "".join(f"{value:>{len(b) + 1}.3f}" for b, value in row["batteries"].items())
        low, high = row["ci95"]
        print(
            f"{name:42} {row['families']:.3f} [{low:.3f}, {high:.3f}]     {row['tables']:.3f}   "
            f"{row['any_truth']:.3f}     {cells}"
        )
    for name, row in result["differences"].items():
        low, high = row["ci95"]
        print(f"{name}: {row['families']:+.3f} [{low:+.3f}, {high:+.3f}], {row['tables']:+.3f}")


if __name__ == "__main__":
    main()
