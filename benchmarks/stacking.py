"""The super learner against scikit-learn's stacking and the best single base learner, on tables.

    python benchmarks/stacking.py [--data $METALIT_DATA] [--splits 4] [--rows 500]

Tables: the four classification tables that scikit-learn ships and, with `--data`, the labelled ones
of its folders `adbench` (normal or not) and `clustering` (reference labels), at most `--rows` rows
of each. Every split trains all methods on the same half of the rows, with the same base learners
and the same folds, and scores the other half. The best single learner is chosen by the same
cross-validation. The defaults of `penalty` and `alpha` were chosen on the first two splits; the
other two are also reported by themselves. Prints a table and writes
`benchmarks/results/stacking.json`.
"""

import argparse
import json
import platform
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, ttest_1samp, wilcoxon
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor
from training import RESULTS, commit

from metalit import Samples
from metalit.combinations import Stacking
from metalit.combinations.folds import HeldOut
from metalit.learners import SklearnClassifier

SHIPPED = {
    "iris": load_iris,
    "wine": load_wine,
    "breast_cancer": load_breast_cancer,
    "digits": load_digits,
}
CHOSEN_ON = 2  # splits that the defaults were chosen on
METHODS = ("super learner", "super learner, alpha 1", "stacking", "best single", "uniform")


def base_learners(seed: int) -> dict[str, SklearnClassifier]:
    """A tree, a forest, boosting, neighbours, a linear model."""
    named = {
        "tree": DecisionTreeClassifier(min_samples_leaf=5),
        "forest": RandomForestClassifier(n_estimators=50),
        "boosting": HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=15),
        "neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(10)),
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
    }
    return {name: SklearnClassifier(estimator, seed=seed) for name, estimator in named.items()}


def tables(data: Path | None, rows: int) -> Iterator[tuple[str, Any, Any]]:
    """Name, x and y of every table; classes with fewer than 10 rows are left out."""
    found = [(name, *load(return_X_y=True)) for name, load in SHIPPED.items()]
    yield from (_limited(*table, rows) for table in found)
    if data is None:
        return
    for file in sorted([*data.glob("adbench/*/*.npz"), *data.glob("clustering/*/*/*.npz")]):
        with np.load(file) as arrays:
            x, y = arrays["X"], arrays["labels0" if "labels0" in arrays else "y"].ravel()
        table = _limited(file.stem, x, y, rows)
        if len(np.unique(table[2])) > 1:
            yield table


def _limited(name: str, x: Any, y: Any, rows: int) -> tuple[str, Any, Any]:
    chosen = np.random.default_rng(0).permutation(len(x))[:rows]
    x, y = np.asarray(x, dtype=np.float64)[chosen], np.asarray(y).astype(int)[chosen]
    classes, counts = np.unique(y, return_counts=True)
    keep = np.isin(y, classes[counts >= 10])
    return name, x[keep], np.unique(y[keep], return_inverse=True)[1]


def compare(x: Any, y: Any, seed: int) -> dict[str, Any]:
    """Score every method on one split."""
    train, test = train_test_split(np.arange(len(y)), test_size=0.5, random_state=seed, stratify=y)
    support = Samples(torch.tensor(x[train]), torch.tensor(y[train]))
    learners = base_learners(seed)
    query = torch.tensor(x[test])
    # all methods share the held-out outputs and the fitted base learners: each is fitted once
    evidence = Stacking(seed=seed).observe(learners, support)
    trials = evidence.state[0]
    shares = torch.stack([answer(query).softmax(dim=1) for answer in evidence.predictors])

    def mixture(alpha: float) -> Tensor:
        combination, prior = Stacking(alpha=alpha, seed=seed), torch.zeros(len(learners))
        weighting = combination.weigh(list(learners), evidence, support, prior)
        return combination.answer(evidence, weighting, query).softmax(dim=1)

    best = int((-_right(trials.outputs, trials.y).log()).mean(dim=1).argmin())
    answered = {
        "super learner": mixture(alpha=0.05),
        "super learner, alpha 1": mixture(alpha=1.0),
        "stacking": stacking(trials, shares),
        "best single": shares[best],
        "uniform": shares.mean(dim=0),
    }
    single = dict(zip(learners, shares, strict=True))
    return {name: _score(p, y[test]) for name, p in {**answered, **single}.items()}


def stacking(trials: HeldOut, shares: Tensor) -> Tensor:
    """What `StackingClassifier` does: logistic regression on held-out probabilities."""
    first = 1 if trials.outputs.shape[2] == 2 else 0  # of two classes it takes the second column
    train, test = (torch.cat(list(p[..., first:]), dim=1).numpy() for p in (trials.outputs, shares))
    final = LogisticRegression().fit(train, trials.y.numpy())
    return torch.from_numpy(final.predict_proba(test))


def _right(shares: Tensor, y: Tensor) -> Tensor:
    return shares.gather(2, y.expand(len(shares), -1)[..., None])[..., 0].clamp_min(1e-7)


def _score(shares: Tensor, y: Any) -> dict[str, Any]:
    p = shares.clamp_min(1e-7).numpy()
    p = p / p.sum(axis=1, keepdims=True)
    right = -np.log(p[np.arange(len(y)), y])
    return {
        "accuracy": accuracy_score(y, p.argmax(axis=1)),
        "log_loss": log_loss(y, p, labels=np.arange(p.shape[1])),
        "rows": right.tolist(),
    }


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean scores and ranks over tables, wins, and tables that are worse than the best single."""
    summary: dict[str, Any] = {}
    for score, sign in (("accuracy", -1), ("log_loss", 1)):
        means = np.array(
            [[np.mean([r[m][score] for r in table]) for m in METHODS] for table in runs.values()]
        )
        ranks = np.apply_along_axis(rankdata, 1, sign * means)
        gaps = sign * (means[:, :1] - means)
        summary[score] = {
            method: {
                "mean": means[:, k].mean(),
                "mean_rank": ranks[:, k].mean(),
                "wins_ties_losses_of_the_super_learner": [
                    int((gaps[:, k] < -1e-12).sum()),
                    int((abs(gaps[:, k]) <= 1e-12).sum()),
                    int((gaps[:, k] > 1e-12).sum()),
                ],
                "wilcoxon_p": float(wilcoxon(gaps[:, k]).pvalue) if gaps[:, k].any() else 1.0,
            }
            for k, method in enumerate(METHODS)
        }
    summary["significantly_worse_than_best_single"] = {
        method: [name for name, table in runs.items() if _worse(table, method)]
        for method in METHODS[:3]
    }
    return summary


def _worse(table: list[dict[str, Any]], method: str) -> bool:
    """One-sided t-test over test rows, level 0.01 divided by the number of splits, any split."""
    for run in table:
        gap = np.subtract(run[method]["rows"], run["best single"]["rows"])
        if abs(gap).max() > 1e-6 and ttest_1samp(gap, 0, alternative="greater").pvalue < 0.01 / len(
            table
        ):
            return True
    return False


def show(part: str, summary: dict[str, Any], tables: int) -> None:
    for score in ("accuracy", "log_loss"):
        print(f"\n{score} over {tables} tables, {part}: mean, mean rank, wins-ties-losses of ours")
        for method, row in summary[score].items():
            wins = "-".join(map(str, row["wins_ties_losses_of_the_super_learner"]))
            print(f"{method:28}{row['mean']:8.4f}{row['mean_rank']:8.2f}   {wins}")
    print("\nworse than best single:", summary["significantly_worse_than_best_single"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--tables", nargs="+")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    began, at, runs = time.time(), commit(), {}
    for name, x, y in tables(options.data, options.rows):
        if options.tables is None or name in options.tables:
            runs[name] = [compare(x, y, seed) for seed in range(options.splits)]
            cells = (f"{m} {np.mean([r[m]['log_loss'] for r in runs[name]]):.3f}" for m in METHODS)
            print(f"{name:28}", *cells, sep="  ", flush=True)
    summary = {"all splits": summarise(runs)}
    if options.splits > CHOSEN_ON:
        later = {name: table[CHOSEN_ON:] for name, table in runs.items()}
        summary[f"splits {CHOSEN_ON} and later"] = summarise(later)
    for part, found in summary.items():
        show(part, found, len(runs))
    for table in runs.values():
        for run in table:
            for scores in run.values():
                del scores["rows"]
    given = f" --splits {options.splits} --rows {options.rows}"
    result = {
        "command": "python benchmarks/stacking.py --data $METALIT_DATA" + given,
        "commit": at,
        "seeds": list(range(options.splits)),
        "hardware": f"one core of {platform.machine()}, shared",
        "seconds": round(time.time() - began),
        "tables": len(runs),
        "summary": summary,
        "runs": runs,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "stacking.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
