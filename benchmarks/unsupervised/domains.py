"""Clusterers meta-trained on one kind of tables and used on another: what the change costs.

    python benchmarks/unsupervised/domains.py [--tables 1600] [--test 80] [--seed 0]

Takes about 15 minutes of one core. Meta-trains the network of `configs/similarity.yaml` three
times, each on as many tables: of shapes in the plane, of mixtures in 2 to 60 columns, and of both
by turns. `AmortizedClusterer` then clusters held-out tables of either kind, k given, by each of
them and by the same pipeline untrained. Best weights are chosen on tables of the own kind. Prints
the mean adjusted Rand index and paired differences with 95 % bootstrap intervals over tables, and
writes `benchmarks/results/unsupervised_domains.json`.

The kinds are the families of `metalit.tables.PLANE`, all with 2 columns (3 for rolled sheets), and
of `metalit.tables.ANY_DIMENSION`; no family is in both. All families of a kind are drawn alike.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from sklearn.metrics import adjusted_rand_score

from metalit import Episode
from metalit.data.episode_dataset import EpisodeDataset
from metalit.hyperparameters import describe
from metalit.learners import AmortizedClusterer, PairwiseSimilarity
from metalit.tables import ANY_DIMENSION, PLANE
from metalit.tasks import MixedTasks, TableTasks, TaskDistribution

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))  # in front: the folder above has a clustering.py too
from clustering import interval, paired, untrained
from training import RESULTS, commit, meta_train

FILE = RESULTS / "unsupervised_domains.json"
TEST_SEED = 77  # no training has it
STEP = 8  # tables of an outer step; the config has 4
UNTRAINED = "untrained"
# asked for: each network against the one of the other kind, the one of both, and the control
PAIRS = (
    ("plane", "mixtures"),
    ("both", "plane"),
    ("both", "mixtures"),
    ("plane", UNTRAINED),
    ("mixtures", UNTRAINED),
    ("both", UNTRAINED),
)


def kinds() -> dict[str, TaskDistribution]:
    plane = TableTasks(families=list(PLANE), planar=1.0)
    mixtures = TableTasks(families=list(ANY_DIMENSION), planar=0.0)
    return {"plane": plane, "mixtures": mixtures, "both": MixedTasks([plane, mixtures])}


def train(tasks: TaskDistribution, tables: int, seed: int) -> tuple[PairwiseSimilarity, float]:
    """Return the network that was trained on so many tables, and the seconds it took."""
    options = {
        "--seed_everything": seed,
        "--data.init_args.tasks": json.dumps(describe(tasks)),
        "--data.init_args.val_tasks": "null",  # those of the training
        "--data.init_args.episodes_per_epoch": tables // 2,
        "--model.init_args.lr_scheduler.init_args.total_steps": tables // STEP,
        "--trainer.max_epochs": 2,
        "--trainer.accumulate_grad_batches": STEP,
    }
    given = (f"{name}={value}" for name, value in options.items())
    model, _, seconds = meta_train("configs/similarity.yaml", *given)
    similarity = model.learner.eval()
    assert isinstance(similarity, PairwiseSimilarity)
    return similarity, seconds


def scores_of(similarity: PairwiseSimilarity, tables: Sequence[Episode]) -> list[float]:
    """Adjusted Rand index of each table, noise points left out."""
    learner, scores = AmortizedClusterer(similarity), []
    for support, (_, truth) in tables:
        known = (truth >= 0).numpy()
        labels = learner.cluster(support).labels
        scores.append(float(adjusted_rand_score(truth.numpy()[known], labels[known])))
    return scores


def show(scores: dict[str, dict[str, list[float]]]) -> None:
    tested = next(iter(scores.values()))
    print(f"{'meta-trained on':18}" + "".join(f"{'tested on ' + kind:>26}" for kind in tested))
    for name, row in scores.items():
        cells = ("{:.3f} [{:.3f}, {:.3f}]".format(*interval(values)) for values in row.values())
        print(f"{name:18}" + "".join(f"{cell:>26}" for cell in cells))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", type=int, default=1600, help="for each of the trainings")
    parser.add_argument("--test", type=int, default=80, help="held-out tables of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.tables < 2 * STEP or options.tables % (2 * STEP):
        parser.error(f"--tables must be a multiple of {2 * STEP}, two epochs of whole steps")
    torch.set_num_threads(1)
    at = commit()
    tests: dict[str, list[Episode]] = {}
    for kind, tasks in kinds().items():
        if kind != "both":
            dataset = EpisodeDataset(tasks, TEST_SEED, "test", options.test)
            tests[kind] = [dataset[number] for number in range(options.test)]
    networks, seconds = {UNTRAINED: untrained()}, {}
    for kind, tasks in kinds().items():
        networks[kind], seconds[kind] = train(tasks, options.tables, options.seed)
        print(f"meta-trained on {kind} in {seconds[kind]:.0f} s", flush=True)
    scores: dict[str, dict[str, list[float]]] = {
        name: {kind: scores_of(network, tables) for kind, tables in tests.items()}
        for name, network in networks.items()
    }
    show(scores)
    gaps: dict[str, dict[str, Any]] = {kind: {} for kind in tests}
    for kind, found in gaps.items():
        for one, other in PAIRS:
            found[f"{one} - {other}"] = paired(scores[one][kind], scores[other][kind])
    for kind, found in gaps.items():
        for name, gap in found.items():
            mean, low, high = gap["difference"]
            row = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]  {gap['wins']}-{gap['losses']}"
            print(f"tested on {kind:9} {name:22} {row}")
    content = {
        "command": f"python benchmarks/unsupervised/domains.py --tables {options.tables} "
        f"--test {options.test} --seed {options.seed}",
        "commit": at,
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "seconds_of_meta_training": {name: round(value, 1) for name, value in seconds.items()},
        "adjusted_rand": {
            name: {kind: interval(values) for kind, values in row.items()}
            for name, row in scores.items()
        },
        "differences": gaps,
        "scores": {
            name: {kind: [round(value, 4) for value in values] for kind, values in row.items()}
            for name, row in scores.items()
        },
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
