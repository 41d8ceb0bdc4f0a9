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
  number of characters is "known", or where Ward's tree of the images is cut by the largest
  "silhouette", or at a "height" that is right on average in the five validation alphabets: it
  carries over as long as characters have about equally many drawings.
- "learned" is the network of the last step, not of the best validation score. "untrained" is the
  same pipeline with initial weights, "pixels" the same without a network, both for the first seed
  only, as k-means is. Only the difference to "untrained" is learning.
- Labels of the 172 validation characters chose the augmentations, and choose in every run the
  temperature of the clusters and the height, for each representation its own. They are used for
  nothing else, and the test characters for nothing but the tables.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1]))
from training import RESULTS, call, commit

from metalit import MetaLearner, Samples
from metalit.datasets import Omniglot
from metalit.learners import EmbeddedKMeans, Learner, SklearnClusterer
from metalit.metrics import AdjustedRand, EpisodeMetric, MatchedAccuracy, NormalizedMutualInfo
from metalit.networks import Conv4
from metalit.scikit import match_labels
from metalit.tasks import LabelTasks

CONFIG = "configs/omniglot_clustering.yaml"
TEMPERATURES = (0.005, 0.02, 0.05, 0.1, 0.2)
LARGEST = 80  # number of characters that an estimate may reach
METRICS: dict[str, EpisodeMetric] = {
    "accuracy": MatchedAccuracy(),
    "nmi": NormalizedMutualInfo(),
    "ari": AdjustedRand(),
}
Tables = list[Samples]  # embedded images and their characters

# training


def train(seed: int, root: Path, runs: Path, rest: list[str]) -> tuple[Path, float]:
    """Train the config with one seed; return the checkpoint of the last step and the seconds."""
    folder = runs / f"seed_{seed}"
    found = sorted(folder.glob("*/checkpoints/last.ckpt"))
    took = folder / "seconds"
    if found:
        return found[-1], float(took.read_text())
    arguments = ["--seed_everything", str(seed), "--data.seed", str(seed)]
    arguments += [f"--data.init_args.dataset.init_args.root={root}"]
    arguments += ["--trainer.default_root_dir", str(folder)]
    arguments += ["--trainer.enable_progress_bar", "false"]
    seconds = round(call("fit", CONFIG, *arguments, *rest)[1], 1)
    took.write_text(str(seconds))
    return next(folder.glob("*/checkpoints/last.ckpt")), seconds


def networks(checkpoint: Path, seed: int) -> dict[str, nn.Module]:
    """What embeds the images: the trained network, the same as it was before, and none."""
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


def balanced(way: int, temperature: float, starts: int = 20) -> Learner:
    """The learner of the config on rows that are embedded already."""
    return EmbeddedKMeans(nn.Identity(), way, temperature=temperature, starts=starts)


def k_means(way: int) -> Learner:
    """Scikit-learn's k-means with ten starts."""
    return SklearnClusterer(KMeans(n_init=10), n_clusters=way)


def accuracies(learner: Learner, tables: Tables) -> np.ndarray[Any, Any]:
    """Accuracy in % of every table."""
    return np.array([100 * score(learner, table)["accuracy"] for table in tables])


def choose_temperature(tables: Tables, starts: int = 20) -> float:
    """The temperature that is best on tables of validation characters."""

    def mean(temperature: float) -> float:
        scores = (score(balanced(way_of(t), temperature, starts), t) for t in tables)
        return float(np.mean([own["accuracy"] for own in scores]))

    return max(TEMPERATURES, key=mean)


def way_of(table: Samples) -> int:
    """The true number of characters."""
    return int(table.y.max()) + 1


def few_shot(way: int, seeds: dict[int, Path], val: Tables, test: Tables) -> dict[str, Any]:
    """Means, intervals and seeds of every representation; k-means with the first seed only."""
    found: dict[str, list[Any]] = {}
    temperatures: dict[str, float] = {}
    for seed, checkpoint in seeds.items():
        for name, network in networks(checkpoint, seed).items():
            if name != "learned" and name in temperatures:
                continue  # controls: the first seed only
            tables = embed(network, test)
            if name not in temperatures:
                temperatures[name] = choose_temperature(embed(network, val))
                found[f"{name}, k-means"] = [accuracies(k_means(way), tables)]
            own = accuracies(balanced(way, temperatures[name]), tables)
            found.setdefault(f"{name}, balanced", []).append(own)
            print(way, seed, name, temperatures[name], round(own.mean(), 2), flush=True)
    rows: dict[str, Any] = {name: interval(values) for name, values in found.items()}
    for kind in ("balanced", "k-means"):
        (control,) = found[f"untrained, {kind}"]
        gains = [own - control for own in found[f"learned, {kind}"]]
        rows[f"learned minus untrained, {kind}"] = interval(gains)
    return {"temperatures": temperatures, "rows": rows}


def interval(values: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Mean over seeds and episodes, its 95 % interval over episodes, and the mean of each seed."""
    over_seeds = np.mean(values, axis=0)
    half = 1.96 * over_seeds.std(ddof=1) / len(over_seeds) ** 0.5
    return {
        "mean": round(float(over_seeds.mean()), 2),
        "ci95": round(float(half), 2),
        "seeds": [round(float(own.mean()), 2) for own in values],
    }


def whole_alphabets(
    seeds: dict[int, Path], val: dict[str, Samples], test: dict[str, Samples]
) -> dict[str, Any]:
    """Scores of every alphabet, the number of characters known and not; mean over seeds.

    K-means and the silhouette take the first seed only.
    """
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    temperatures: dict[str, float] = {}
    for seed, checkpoint in seeds.items():
        for name, network in networks(checkpoint, seed).items():
            if name != "learned" and name in temperatures:
                continue
            teaching = embed(network, list(val.values()))
            first = name not in temperatures
            if first:
                temperatures[name] = choose_temperature(teaching, starts=5)
            height = choose_height(teaching)
            rows: dict[str, dict[str, dict[str, float]]] = {}
            for alphabet, table in zip(test, embed(network, list(test.values())), strict=True):
                numbers = {"known": way_of(table), "height": cut(table, height)}
                if first:
                    numbers["silhouette"] = silhouette(table)
                for kind, number in numbers.items():
                    own = score(balanced(number, temperatures[name], starts=5), table)
                    own["number"] = float(number)
                    rows.setdefault(f"{name}, balanced, {kind}", {})[alphabet] = own
                if first:
                    own = score(k_means(way_of(table)), table)
                    rows.setdefault(f"{name}, k-means, known", {})[alphabet] = own
            for row, values in rows.items():
                found.setdefault(row, []).append(values)
            print("alphabets", seed, name, flush=True)
    rows_of_all = {name: average(values) for name, values in found.items()}
    return {"temperatures": temperatures, "rows": rows_of_all}


def heights(table: Samples) -> np.ndarray[Any, Any]:
    """Heights at which Ward's tree joins two clusters, from the last to the first."""
    return np.asarray(linkage(table.x.numpy(), "ward")[::-1, 2])


def choose_height(tables: Tables) -> float:
    """The height that is least wrong about the number of characters, in the mean logarithm."""
    joins = [heights(table) for table in tables]
    true = np.array([way_of(table) for table in tables])
    candidates = np.sort(np.concatenate([own[: 2 * LARGEST] for own in joins]))
    found = np.array([[(own > h).sum() + 1 for own in joins] for h in candidates])
    errors = np.abs(np.log(found / true)).mean(axis=1)
    return float(candidates[np.flatnonzero(errors == errors.min())].mean())


def cut(table: Samples, height: float) -> int:
    """The number of clusters where Ward's tree is cut at a height."""
    return int((heights(table) > height).sum()) + 1


def silhouette(table: Samples) -> int:
    """The number of clusters where Ward's tree has the largest silhouette."""
    rows = table.x.numpy()
    tree, distances = linkage(rows, "ward"), squareform(pdist(rows))

    def value(number: int) -> float:
        labels = fcluster(tree, number, "maxclust")
        return float(silhouette_score(distances, labels, metric="precomputed"))

    return max(range(2, LARGEST + 1), key=value)


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


def draw(network: nn.Module, episode: Samples, temperatures: dict[str, float], file: Path) -> None:
    """Draw the clusters of one episode, found in pixels and in the learned embedding."""
    way = way_of(episode)
    figure = Figure(figsize=(0.5 * way, 7), layout="constrained")
    encoders = {"pixels": nn.Flatten(), "learned": network}
    for part, (name, encoder) in zip(figure.subfigures(2, 1), encoders.items(), strict=True):
        table = embed(encoder, [episode])[0]
        outputs = balanced(way, temperatures[name]).eval()(table, table.x)
        clusters, right = match(outputs.argmax(1), table.y, way)
        part.suptitle(f"{name}: {100 * right.float().mean():.0f} % of the images are right")
        panels = part.subplots(int(clusters.bincount().max()), way)
        for axis in panels.flat:
            axis.axis("off")
        for k in range(way):
            for row, i in enumerate((clusters == k).nonzero()[:, 0].tolist()):
                tint = torch.tensor([1.0, 1.0, 1.0] if right[i] else [1.0, 0.7, 0.7])
                panels[row, k].imshow((1 - episode.x[i, 0, ..., None]) * tint)
    figure.savefig(file, dpi=100)


def match(clusters: Tensor, y: Tensor, way: int) -> tuple[Tensor, Tensor]:
    """Number the clusters as the characters that they match; also which rows are right."""
    names = torch.from_numpy(match_labels(clusters.numpy(), y.numpy(), way))
    return names[clusters], names[clusters] == y


def show(result: dict[str, Any]) -> None:
    for way, table in result["episodes"].items():
        print(f"\n{way}-way 5 images, clustering accuracy in %, mean ± 95 % interval (seeds)")
        for name, row in table["rows"].items():
            print(f"{name:36}{row['mean']:8.2f} ± {row['ci95']:.2f}   {row['seeds']}")
    print("\nwhole alphabets, mean of all        accuracy     NMI     ARI   number")
    for name, row in result["alphabets"]["rows"].items():
        values = "".join(f"{row[key]:8.3f}" for key in ("accuracy", "nmi", "ari"))
        print(f"{name:36}{values}{row.get('number', float('nan')):9.1f}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/unsupervised_omniglot"))
    parser.add_argument("--episodes", type=int, default=600)
    options, rest = parser.parse_known_args(argv)
    at, begin = commit(), time.perf_counter()
    root = Path(os.environ.get("METALIT_DATA", "data")) / "omniglot"

    trained = {seed: train(seed, root, options.runs, rest) for seed in options.seeds}
    seeds = {seed: checkpoint for seed, (checkpoint, _) in trained.items()}
    val, test = (Omniglot(split, root=str(root)) for split in ("val", "test"))
    episodes = {}
    for way in (5, 20):
        sets = draw_episodes(val, way, 60), draw_episodes(test, way, options.episodes)
        episodes[str(way)] = few_shot(way, seeds, *sets)
    result = {
        "command": "METALIT_DATA=... python benchmarks/unsupervised/omniglot.py",
        "commit": at,
        "seeds": options.seeds,
        "test_episodes": options.episodes,
        "seconds_fit": {seed: seconds for seed, (_, seconds) in trained.items()},
        "episodes": episodes,
        "alphabets": whole_alphabets(seeds, alphabets(val), alphabets(test)),
        "seconds": round(time.perf_counter() - begin, 1),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    show(result)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "unsupervised_omniglot.json"
    file.write_text(json.dumps(result, indent=2) + "\n")
    learned = networks(seeds[options.seeds[0]], options.seeds[0])["learned"]
    picture = Path(__file__).parents[2] / "docs" / "omniglot_clustering.png"
    draw(learned, draw_episodes(test, 20, 1)[0], episodes["20"]["temperatures"], picture)


if __name__ == "__main__":
    main()
