"""Few-step clustering on families of tables that were not in meta-training.

    python benchmarks/unsupervised/adaptation.py [--seeds 0 1 2] [--episodes 300]

Takes about 4 minutes of one core a seed. Meta-trains `configs/tables_maml.yaml` and adapts from the
meta-learned and from random weights, by the same network and inner loss, to tables of families
held out. Each start has the step size, of five, that is best for it on training families: the
random start after 500 steps, the meta-learned one after 5. Prints a table of the adjusted Rand
index on the query rows, writes `benchmarks/results/unsupervised_adaptation.json` and draws
`docs/adaptation.png`. Intervals are over episodes, whose score is the mean over seeds.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.func import functional_call, vmap

from metalit import Episode, Samples
from metalit.data.episode_dataset import EpisodeDataset
from metalit.learners import SklearnClusterer
from metalit.metrics import AdjustedRand

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, ROOT, commit, meta_train, untrained

CONFIG = "configs/tables_maml.yaml"
FILE = RESULTS / "unsupervised_adaptation.json"
FIGURE = ROOT / "docs" / "adaptation.png"
STEPS = (0, 1, 5, 10, 50, 100, 500)
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)


def episodes_of(data: Any, stage: str, number: int) -> Episode:
    """The first episodes of a stage, as one meta-batch."""
    dataset = EpisodeDataset(data.test_tasks if stage == "test" else data.tasks, 0, stage, number)
    return dataset.meta_batch(range(number)).episodes


@torch.no_grad()
def curve(learner: Any, rate: float, episodes: Episode, steps: tuple[int, ...] = STEPS) -> Tensor:
    """Scores `(steps, B)` after so many steps of one size, all episodes at once."""
    learner.eval()
    learner.inner_loop.lr = rate
    params = {
        name: p.expand(len(episodes.query.x), *p.shape)
        for name, p in learner.initial_parameters().items()
    }

    def adapt(x: Tensor, y: Tensor, start: dict[str, Tensor]) -> dict[str, Tensor]:
        return learner.inner_loop(lambda p: learner.support_loss(p, Samples(x, y)), start)

    def answer(x: Tensor, params: dict[str, Tensor]) -> Tensor:
        return functional_call(learner.network, params, x)

    scores, done = [], 0
    for step in steps:
        learner.inner_loop.eval_steps = step - done
        params, done = vmap(adapt)(*episodes.support, params), step
        scores.append(AdjustedRand()(vmap(answer)(episodes.query.x, params), episodes.query.y))
    return torch.stack(scores)


def best_curve(learner: Any, after: int, choice: Episode, test: Episode) -> tuple[Tensor, float]:
    """The test curve at the step size that is best on other episodes after so many steps."""
    found = {rate: curve(learner, rate, choice, (after,)).mean().item() for rate in RATES}
    rate = max(found, key=lambda key: found[key])
    return curve(learner, rate, test), rate


def refer(estimator: Any, test: Episode) -> Tensor:
    """Scores `(B,)` of a classical clusterer fitted on the support set of each episode."""
    learner, metric = SklearnClusterer(estimator), AdjustedRand()
    return torch.cat(
        [
            metric(learner(Samples(x, y), q)[None], truth[None])
            for x, y, q, truth in zip(*test.support, *test.query, strict=True)
        ]
    )


def interval(values: Tensor) -> list[float]:
    """Mean over the last dimension and half width of its 95 % confidence interval."""
    return [values.mean().item(), (1.96 * values.std() / len(values) ** 0.5).item()]


def draw(table: dict[str, Any], flat: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot(xlabel="unsupervised steps on the table", ylabel="query ARI")
    places = np.arange(len(STEPS))
    for (name, row), marker in zip(table.items(), "os", strict=True):
        mean, ci95 = np.array(list(row.values())).T
        axes.plot(places, mean, marker=marker, label=name)
        axes.fill_between(places, mean - ci95, mean + ci95, alpha=0.2)
    for (name, (mean, _)), style in zip(flat.items(), ("--", ":"), strict=True):
        axes.axhline(mean, color="black", linestyle=style, label=name)
    axes.set_xticks(places, [str(step) for step in STEPS])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(FIGURE, dpi=150)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=300)
    options, rest = parser.parse_known_args(argv)
    at, curves, rates, seconds = commit(), {"meta-learned": [], "random": []}, [], []
    for seed in options.seeds:
        model, data, took = meta_train(CONFIG, "--seed_everything", str(seed), *rest)
        test = episodes_of(data, "test", options.episodes)
        choice = episodes_of(data, "train", 100)
        random = untrained(model, 1000 + seed)
        ours, our_rate = best_curve(model.learner, 5, choice, test)
        theirs, their_rate = best_curve(random, 500, choice, test)
        curves["meta-learned"].append(ours)
        curves["random"].append(theirs)
        rates.append({"meta-learned": our_rate, "random": their_rate})
        seconds.append(round(took, 1))
        print(f"seed {seed}: {took:.0f} s", *(c.mean(dim=1).tolist() for c in (ours, theirs)))
    means = {name: torch.stack(values).mean(dim=0) for name, values in curves.items()}
    table = {
        name: {str(step): interval(row) for step, row in zip(STEPS, rows, strict=True)}
        for name, rows in means.items()
    }
    classical = {
        "KMeans": KMeans(4, n_init=10, random_state=0),
        "GMM": GaussianMixture(4, reg_covar=1e-3, random_state=0),
    }
    flat = {name: interval(refer(estimator, test)) for name, estimator in classical.items()}
    gap = means["meta-learned"][STEPS.index(5)] - means["random"][-1]
    # with one seed there is no deviation, and 0 is written
    spread = {
        name: torch.stack(values).mean(dim=2).std(dim=0, correction=int(len(values) > 1)).tolist()
        for name, values in curves.items()
    }
    result = {
        "command": " ".join(
            [
                "python benchmarks/unsupervised/adaptation.py --seeds",
                *map(str, options.seeds),
                "--episodes",
                str(options.episodes),
                *rest,
            ]
        ),
        "commit": at,
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "seconds_of_meta_training": seconds,
        "step_sizes": rates,
        "adjusted_rand": table,
        "deviation_between_seeds": spread,
        "classical": flat,
        "meta_learned_after_5_minus_random_after_500": interval(gap),
    }
    FILE.write_text(json.dumps(result, indent=2) + "\n")
    for name, row in table.items():
        print(f"{name:14}", *(f"{s}: {m:.3f} ± {ci:.3f}  " for s, (m, ci) in row.items()))
    print(*(f"{name} {m:.3f} ± {ci:.3f}  " for name, (m, ci) in flat.items()))
    print("after 5 less random after 500: {:.3f} ± {:.3f}".format(*interval(gap)))
    draw(table, flat)


if __name__ == "__main__":
    main()
