"""Omniglot clustered without a label in training: few-shot episodes and whole alphabets.

    METALIT_DATA=... python benchmarks/unsupervised/omniglot.py [--seeds 0 1 2] [--runs FOLDER]

Trains `configs/omniglot_clustering.yaml` once a seed, which takes most of the time, and leaves the
runs in FOLDER, where a later call finds them. Prints two tables and writes
`benchmarks/results/unsupervised_omniglot.json` and `docs/omniglot_clustering.png`.

- Episodes are of the 423 test characters of Vinyals' split: 5 images of each of `way` characters,
  all without a label, are clustered together. The score is the share of images that are right
  under the best one-to-one matching of clusters and characters; mean ± 95 % interval over episodes,
  the mean over seeds. The number of characters is known, and, to "balanced" rows, that all have
  equally many images (the setting of Centroid Networks, arXiv 1902.08605).
- Whole alphabets are the 12 of which all characters are in the test split, 20 drawings of each. The
  number of characters is known, or estimated by the silhouette of Ward's clusters.
- "learned" is the network of the last step, not of the best validation score. "untrained" is the
  same pipeline with the initial weights of the same seed, "pixels" the same without a network: only
  the difference to "untrained" is learning.
- No test character was looked at before everything was fixed. Augmentations, temperature and
  length of the training were chosen by the score on the 172 validation characters, whose labels
  are used for nothing else. So is, in every run, the temperature of each row without training.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator
from sklearn.cluster import AgglomerativeClustering, KMeans
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))
from accuracy import RESULTS, commit

from metalit import MetaLearner, Samples
from metalit.datasets import Omniglot
from metalit.learners import Centroids, Learner, SklearnClusterer
from metalit.main import main as metalit
from metalit.metrics import AdjustedRand, EpisodeMetric, MatchedAccuracy, NormalizedMutualInfo
from metalit.networks import Conv4
from metalit.pseudo_labels.number import choose_number
from metalit.tasks import LabelTasks

CONFIG = "configs/omniglot_clustering.yaml"
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
LARGEST = 80  # number of characters that an estimate may reach
METRICS: dict[str, EpisodeMetric] = {
    "accuracy": MatchedAccuracy(),
    "nmi": NormalizedMutualInfo(),
    "ari": AdjustedRand(),
}
Tables = list[Samples]  # embedded images and their characters

# training


def train(seed: int, root: Path, runs: Path, rest: list[str]) -> tuple[Path, float | None]:
    """Train the config with one seed; return the checkpoint of the last step and the seconds."""
    folder = runs / f"seed_{seed}"
    found = sorted(folder.glob("*/checkpoints/last.ckpt"))
    if found:
        return found[-1], None
    arguments = ["--config", CONFIG, "--seed_everything", str(seed), "--data.seed", str(seed)]
    arguments += [f"--data.init_args.dataset.init_args.root={root}"]
    arguments += ["--trainer.default_root_dir", str(folder)]
    arguments += ["--trainer.enable_progress_bar", "false"]
    sys.argv = [sys.argv[0]]  # Lightning reads it beside the arguments given to it
    begin = time.perf_counter()
    metalit(["fit", *arguments, *rest])
    seconds = time.perf_counter() - begin
    return next(folder.glob("*/checkpoints/last.ckpt")), seconds


def networks(checkpoint: Path, seed: int) -> dict[str, nn.Module]:
    """What embeds the images: the trained network, the same untrained, and none."""
    learner = MetaLearner.load_from_checkpoint(checkpoint).learner
    learned = learner.get_submodule("network")
    torch.manual_seed(seed)
    untrained = Conv4(1, learned.way, learned.image_size, learned.hidden, learned.blocks)
    return {"learned": learned, "untrained": untrained, "pixels": nn.Flatten()}


# data


def draw_episodes(data: Omniglot, way: int, count: int) -> Tables:
    """Episode i is drawn by the seed i: 5 images of each of `way` characters."""
    tasks = LabelTasks(way, shot=4, query_shot=1).fit(*data.tensors)
    drawn = (tasks.sample(torch.Generator().manual_seed(i)) for i in range(count))
    return [Samples(torch.cat([s.x, q.x]), torch.cat([s.y, q.y])) for s, q in drawn]


def alphabets(data: Omniglot) -> dict[str, Samples]:
    """All images of every alphabet that is in the split as a whole."""
    x, y = data.tensors
    names = [name.split("/")[0] for name in data.classes]
    found = {}
    for name in sorted(set(names)):
        characters = torch.tensor([i for i, own in enumerate(names) if own == name])
        if len(characters) > 4:  # four characters of Gurmukhi are in test, the rest in train
            rows = torch.isin(y, characters)
            numbers = torch.searchsorted(characters, y[rows])
            found[name] = Samples(x[rows].float() / 255, numbers)
    return found


@torch.no_grad()
def embed(network: nn.Module, episodes: Tables) -> Tables:
    """Embed each episode, whose images the batch norm sees together."""
    return [Samples(nn.functional.normalize(network(x), dim=1), y) for x, y in episodes]


# clustering


def score(learner: Learner, table: Samples) -> dict[str, float]:
    """Cluster the rows of a table and compare with its characters."""
    unlabelled = Samples(table.x, torch.full_like(table.y, -1))
    outputs = learner.eval()(unlabelled, table.x)[None]
    return {name: metric(outputs, table.y[None]).item() for name, metric in METRICS.items()}


def balanced(way: int, temperature: float) -> Learner:
    """The learner of the config on rows that are embedded already."""
    return Centroids(nn.Identity(), way, temperature=temperature)


def k_means(way: int) -> Learner:
    """Scikit-learn's k-means with ten starts."""
    return SklearnClusterer(KMeans(n_init=10), n_clusters=way)


def accuracies(learner: Learner, tables: Tables) -> np.ndarray[Any, Any]:
    """Accuracy in % of every table."""
    return np.array([100 * score(learner, table)["accuracy"] for table in tables])


def choose_temperature(way: int, tables: Tables) -> float:
    """The temperature that is best on validation episodes."""
    means = {t: accuracies(balanced(way, t), tables).mean() for t in TEMPERATURES}
    return max(means, key=means.__getitem__)


def few_shot(
    way: int, seeds: dict[int, Path], val: Tables, test: Tables, learned_temperature: float
) -> dict[str, Any]:
    """One table of rows: means, intervals and seeds of every representation and clusterer."""
    found: dict[str, list[Any]] = {}
    for seed, checkpoint in seeds.items():
        for name, network in networks(checkpoint, seed).items():
            if name == "pixels" and f"{name}, balanced" in found:
                continue
            temperature = learned_temperature
            if name != "learned":
                temperature = choose_temperature(way, embed(network, val))
            tables = embed(network, test)
            found.setdefault(f"{name}, balanced", []).append(
                accuracies(balanced(way, temperature), tables)
            )
            found.setdefault(f"{name}, k-means", []).append(accuracies(k_means(way), tables))
    rows: dict[str, Any] = {name: interval(values) for name, values in found.items()}
    for kind in ("balanced", "k-means"):
        pairs = zip(found[f"learned, {kind}"], found[f"untrained, {kind}"], strict=True)
        rows[f"learned minus untrained, {kind}"] = interval([a - b for a, b in pairs])
    return rows


def interval(values: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Mean over seeds and episodes, its 95 % interval over episodes, and the mean of each seed."""
    over_seeds = np.mean(values, axis=0)
    half = 1.96 * over_seeds.std(ddof=1) / len(over_seeds) ** 0.5
    return {
        "mean": round(float(over_seeds.mean()), 2),
        "ci95": round(float(half), 2),
        "seeds": [round(float(own.mean()), 2) for own in values],
    }


def whole_alphabets(seeds: dict[int, Path], images: dict[str, Samples], temperature: float) -> Any:
    """Scores of every alphabet, the number of characters known and not; mean over seeds."""
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for seed, checkpoint in seeds.items():
        for name, network in networks(checkpoint, seed).items():
            if name == "pixels" and f"{name}, k-means, known" in found:
                continue
            tables = dict(zip(images, embed(network, list(images.values())), strict=True))
            methods: dict[str, Callable[[int], Learner]] = {"k-means": k_means}
            if name == "learned":
                methods["balanced"] = lambda way: balanced(way, temperature)
            numbers = {alphabet: estimate(table) for alphabet, table in tables.items()}
            for method, make in methods.items():
                known = {a: score(make(int(t.y.max()) + 1), t) for a, t in tables.items()}
                guessed = {
                    a: {**score(make(numbers[a]), t), "number": float(numbers[a])}
                    for a, t in tables.items()
                }
                found.setdefault(f"{name}, {method}, known", []).append(known)
                found.setdefault(f"{name}, {method}, estimated", []).append(guessed)
    return {name: average(values) for name, values in found.items()}


def estimate(table: Samples) -> int:
    """The number of clusters of the largest silhouette."""
    ward: BaseEstimator = AgglomerativeClustering()
    generator = torch.Generator().manual_seed(0)
    return choose_number(table.x.numpy(), ward, "silhouette", LARGEST, generator)[0]


def average(runs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means over seeds for every alphabet, and over all of them."""
    by_alphabet = {
        alphabet: {
            key: round(float(np.mean([run[alphabet][key] for run in runs])), 4) for key in row
        }
        for alphabet, row in runs[0].items()
    }
    keys = next(iter(by_alphabet.values()))
    means = {key: np.mean([row[key] for row in by_alphabet.values()]) for key in keys}
    return {
        **{key: round(float(value), 4) for key, value in means.items()},
        "alphabets": by_alphabet,
    }


# what is shown


def draw(checkpoint: Path, episode: Samples, temperature: float, file: Path) -> None:
    """Draw the clusters of one episode, found in pixels and in the learned embedding."""
    way = int(episode.y.max()) + 1
    figure = Figure(figsize=(0.5 * way, 7), layout="constrained")
    parts = figure.subfigures(2, 1)
    for part, name in zip(parts, ("pixels", "learned"), strict=True):
        network = networks(checkpoint, 0)[name]
        table = embed(network, [episode])[0]
        own = temperature if name == "learned" else 0.05
        outputs = balanced(way, own).eval()(table, table.x)
        matched, right = match(outputs.argmax(1), table.y, way)
        part.suptitle(f"{name}: {100 * right.float().mean():.0f} % of the images are right")
        panels = part.subplots(int(matched.bincount(minlength=way).max()), way)
        for axis in panels.flat:
            axis.axis("off")
        for k in range(way):
            for row, i in enumerate((matched == k).nonzero()[:, 0].tolist()):
                ink = 1 - episode.x[i, 0]
                tint = [1.0, 1.0, 1.0] if right[i] else [1.0, 0.7, 0.7]
                panels[row, k].imshow(ink[..., None] * torch.tensor(tint))
    figure.savefig(file, dpi=100)


def match(clusters: Tensor, y: Tensor, way: int) -> tuple[Tensor, Tensor]:
    """Number the clusters as the characters that they match; also which rows are right."""
    from metalit.scikit import match_labels

    names = torch.from_numpy(match_labels(clusters.numpy(), y.numpy(), way))
    return names[clusters], names[clusters] == y


def show(result: dict[str, Any]) -> None:
    for way, rows in result["episodes"].items():
        print(f"\n{way}-way 5 images, clustering accuracy in %, mean ± 95 % interval (seeds)")
        for name, row in rows.items():
            print(f"{name:36}{row['mean']:8.2f} ± {row['ci95']:.2f}   {row['seeds']}")
    print("\nwhole alphabets                     accuracy     NMI     ARI   number")
    for name, row in result["alphabets"].items():
        values = "".join(f"{row[key]:8.3f}" for key in ("accuracy", "nmi", "ari"))
        print(f"{name:36}{values}{row.get('number', float('nan')):9.1f}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/unsupervised_omniglot"))
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--split", default="test", help="val, to choose settings")
    options, rest = parser.parse_known_args(argv)
    at, begin = commit(), time.perf_counter()
    root = Path(os.environ.get("METALIT_DATA", "data")) / "omniglot"

    trained = {seed: train(seed, root, options.runs, rest) for seed in options.seeds}
    seeds = {seed: checkpoint for seed, (checkpoint, _) in trained.items()}
    temperature = MetaLearner.load_from_checkpoint(seeds[options.seeds[0]]).learner.temperature
    val, test = Omniglot("val", root=root), Omniglot(options.split, root=root)
    episodes = {
        str(way): few_shot(
            way,
            seeds,
            draw_episodes(val, way, 50),
            draw_episodes(test, way, options.episodes),
            temperature,
        )
        for way in (5, 20)
    }
    result = {
        "command": "METALIT_DATA=... python benchmarks/unsupervised/omniglot.py",
        "commit": at,
        "seeds": options.seeds,
        "split": options.split,
        "test_episodes": options.episodes,
        "temperature": temperature,
        "seconds_fit": {seed: seconds for seed, (_, seconds) in trained.items()},
        "episodes": episodes,
        "alphabets": whole_alphabets(seeds, alphabets(test), temperature),
        "seconds": round(time.perf_counter() - begin, 1),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    show(result)
    if options.split == "test":
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / "unsupervised_omniglot.json"
        file.write_text(json.dumps(result, indent=2) + "\n")
        picture = Path(__file__).parents[2] / "docs" / "omniglot_clustering.png"
        draw(seeds[options.seeds[0]], draw_episodes(test, 20, 1)[0], temperature, picture)


if __name__ == "__main__":
    main()
