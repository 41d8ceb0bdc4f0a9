"""Streams whose distribution changes: prequential scores of meta-learned and classical methods.

    python benchmarks/unsupervised/streams.py [clustering detection] [--streams 20] [--windows 40]

Takes about 20 minutes of one core. Meta-trains `configs/streams_clustering.yaml` and
`configs/streams_detection.yaml`, then lets every method go through the same streams: it answers for
each window before it learns from it. Prints tables, writes
`benchmarks/results/unsupervised_streams.json` and draws `docs/streams_clustering.png` and
`docs/streams_detection.png`: the first of the test streams that jump and of those that return.
Streams that return are twice as long, since the first of three states is back after 60 windows.

Rows until recovery are counted on the mean over all jumps of all streams, since single windows
scatter and states differ in difficulty: rows from the jump until the mean score is within 0.05 of
its mean over the five windows before. Meta-training saw windows of drifting streams of domain 0
only; jumps, returns, swings and heavy tails are new in the test.
"""

import argparse
import json
import os
import platform
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.ensemble import IsolationForest
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from metalit.streams import CumulativeSum, StreamAdapter
from metalit.tasks import StreamTasks
from metalit.tasks.streams import Stream, drift, jump, no_change, oscillation, recurrence

sys.path.insert(0, str(Path(__file__).parents[1]))
from training import RESULTS, ROOT, commit, meta_train, untrained

FILE = RESULTS / "unsupervised_streams.json"
CASES: dict[str, dict[str, Any]] = {
    "drift": {"change": drift},
    "recurring": {"change": recurrence},
    "jump": {"change": jump},
    "no change": {"change": no_change},
    "held out: swings, heavy tails": {"change": oscillation, "freedom": 3},
}
JUMPS = ("jump", "recurring")
FIRST_SEED = 20_000  # of the test streams; hyper-parameters were chosen on others, from 5,000
CONTAMINATION = 0.1
OURS = "meta-learned, adapting"


class Refit:
    """An estimator fitted anew on the last few windows, or once and for all."""

    def __init__(self, make: Callable[[], Any], windows: int = 1, once: bool = False) -> None:
        self.make, self.once = make, once
        self.rows: deque[Any] = deque(maxlen=windows)
        self.model: Any = None

    def partial_fit(self, x: Any) -> None:
        self.rows.append(x)
        if self.model is None or not self.once:
            self.model = self.make().fit(np.concatenate(self.rows))

    def answer(self, x: Any) -> Any:
        return self.model.predict(x)


class Forest(Refit):
    def answer(self, x: Any) -> Any:
        return -self.model.score_samples(x)


class Nearest(Refit):
    def answer(self, x: Any) -> Any:
        return self.model.kneighbors(x)[0][:, -1]


class MiniBatch:
    def __init__(self) -> None:
        self.model = MiniBatchKMeans(4, n_init=3, random_state=0)

    def partial_fit(self, x: Any) -> None:
        self.model.partial_fit(x)

    def answer(self, x: Any) -> Any:
        return self.model.predict(x)


class Adapter:
    """What follows a stream by `StreamAdapter`."""

    def __init__(self, learner: Any, detection: bool, **arguments: Any) -> None:
        # the learner of detection makes its support sets of the windows
        maml, pretext = (learner.learner, learner.pretext) if detection else (learner, None)
        self.adapter = StreamAdapter(maml, pretext, **arguments)
        self.answer = self.adapter.decision_function if detection else self.adapter.predict

    def partial_fit(self, x: Any) -> None:
        self.adapter.partial_fit(x)


class Embedded(Refit):
    """k-means of the last window in a learned embedding: what adaptation adds to it, or not."""

    def __init__(self, learner: Any) -> None:
        super().__init__(lambda: KMeans(4, n_init=10, random_state=0))
        self.encoder = learner.network.encoder

    def _embed(self, x: Any) -> Any:
        with torch.no_grad():
            return self.encoder(torch.as_tensor(x, dtype=torch.float32)).double().numpy()

    def partial_fit(self, x: Any) -> None:
        super().partial_fit(self._embed(x))

    def answer(self, x: Any) -> Any:
        return super().answer(self._embed(x))


def methods(task: str, trained: Any, random: Any) -> dict[str, Callable[[], Any]]:
    detection = task == "detection"
    # a fifth of the way back and 1 step, since meta-training took 5
    follow = {"steps": 1, "anchor": 0.2}
    test = CumulativeSum(threshold=3.0)
    shared = {
        OURS: lambda: Adapter(trained, detection, test=test, **follow),
        "without the change test": lambda: Adapter(trained, detection, **follow),
        "meta-learned, adapted once": lambda: Adapter(trained, detection, steps=0),
        "untrained, adapting": lambda: Adapter(random, detection, test=test, **follow),
        # going back to random weights may cost more than it gives
        "untrained, without anchor": lambda: Adapter(random, detection, test=test),
    }
    if detection:
        forest = lambda: IsolationForest(n_estimators=25, random_state=0)  # noqa: E731
        return shared | {
            "isolation forest, once": lambda: Forest(forest, once=True),
            "isolation forest, last window": lambda: Forest(forest),
            "5 neighbours, once": lambda: Nearest(lambda: NearestNeighbors(n_neighbors=5), 1, True),
            "5 neighbours, last window": lambda: Nearest(lambda: NearestNeighbors(n_neighbors=5)),
            "5 neighbours, last 5": lambda: Nearest(lambda: NearestNeighbors(n_neighbors=5), 5),
        }
    ten = lambda: KMeans(4, n_init=10, random_state=0)  # noqa: E731
    single = lambda: KMeans(4, n_init=1, random_state=0)  # noqa: E731
    return shared | {
        "KMeans in the learned embedding": lambda: Embedded(trained),
        "KMeans, once": lambda: Refit(ten, once=True),
        "KMeans, last window": lambda: Refit(ten),
        "KMeans of 1 start, last window": lambda: Refit(single),
        "GMM, last window": lambda: Refit(
            lambda: GaussianMixture(4, reg_covar=1e-3, random_state=0)
        ),
        "GMM, last 5": lambda: Refit(lambda: GaussianMixture(4, reg_covar=1e-3, random_state=0), 5),
        "MiniBatchKMeans.partial_fit": MiniBatch,
    }


def follow(method: Any, stream: Stream, score: Callable[..., float]) -> tuple[list[float], float]:
    """Return the score of every window but the first and the CPU seconds of a window."""
    scores, seconds = [], 0.0
    for t in range(len(stream.x)):
        x, y = stream.x[t].double().numpy(), stream.y[t].numpy()
        begin = time.process_time()
        if t:
            answer = np.asarray(method.answer(x))
        method.partial_fit(x)
        seconds += time.process_time() - begin
        if t:
            scores.append(score(y, answer))
    return scores, seconds / len(stream.x)


def recovery(scores: Any, streams: list[Stream]) -> float | None:
    """Rows from a jump until the mean score over all jumps is back; None if it never is."""
    jumps = [
        scores[i][t - 1 - 5 : t - 1 + 15]  # score t - 1 is that of window t
        for i, stream in enumerate(streams)
        for t in stream.changes
        if 5 < t <= len(stream.x) - 15
    ]
    if not jumps:
        return None
    mean = np.mean(jumps, axis=0)
    back = np.flatnonzero(mean[5:] >= mean[:5].mean() - 0.05)
    return float(back[0] * streams[0].x.shape[1]) if len(back) else None


def interval(values: Any) -> list[float]:
    """Mean and half width of its 95 % confidence interval over streams."""
    return [float(np.mean(values)), float(1.96 * np.std(values, ddof=1) / len(values) ** 0.5)]


def run_case(task: str, case: str, makers: Any, n: int, windows: int) -> tuple[Any, Any]:
    contamination = CONTAMINATION if task == "detection" else None
    tasks = StreamTasks(contamination=contamination, **CASES[case])
    seeds = [torch.Generator().manual_seed(FIRST_SEED + i) for i in range(n)]
    streams = [tasks.stream(seed, windows) for seed in seeds]
    score = roc_auc_score if task == "detection" else adjusted_rand_score
    rows, curves = {}, {}
    for name, make in makers.items():
        followed = [follow(make(), stream, score) for stream in streams]
        curves[name] = np.array([scores for scores, _ in followed])
        means = curves[name].mean(axis=1)
        rows[name] = {
            "score": interval(means),
            "ours_minus_it": interval(curves[OURS].mean(axis=1) - means),
            "wins_of_ours": int((curves[OURS].mean(axis=1) > means).sum()),
            "cpu_ms_per_window": round(1000 * float(np.mean([s for _, s in followed])), 2),
        }
        if case in JUMPS:
            rows[name]["rows_until_recovery"] = recovery(curves[name], streams)
    return rows, (streams[0], {name: curve[0] for name, curve in curves.items()})


def show(task: str, case: str, rows: dict[str, Any]) -> None:
    print(f"\n{task}, {case}", flush=True)
    for name, row in rows.items():
        score, gap = ("{:6.3f} ± {:.3f}".format(*row[k]) for k in ("score", "ours_minus_it"))
        rest = f"{row['cpu_ms_per_window']:8.2f} ms {row.get('rows_until_recovery', '')}"
        print(f"  {name:34} {score}   ours better by {gap} {rest}", flush=True)


def draw(task: str, pictures: dict[str, tuple[Stream, dict[str, Any]]]) -> None:
    """The score of some methods window by window, mean of three, with the jumps marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(pictures)), layout="constrained")
    for number, (title, (stream, curves)) in enumerate(pictures.items(), 1):
        axes = figure.add_subplot(len(pictures), 1, number, title=title)
        names = [OURS, "untrained, adapting", "KMeans, last window", "5 neighbours, last window"]
        for name in names:
            if name in curves:
                smooth = np.convolve(np.pad(curves[name], 1, mode="edge"), np.ones(3) / 3, "valid")
                axes.plot(range(1, len(stream.x)), smooth, label=name)
        for t in stream.changes:
            axes.axvline(t, color="black", linestyle=":", linewidth=1)
        axes.set(xlabel="window", ylabel="AUROC" if "detection" in title else "ARI")
        axes.grid(alpha=0.3)
        if number == 1:  # above, where it hides no curve
            figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(ROOT / "docs" / f"streams_{task}.png", dpi=120)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=["clustering", "detection"])
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--windows", type=int, default=40)
    options, rest = parser.parse_known_args(argv)
    warnings.filterwarnings("ignore", category=UserWarning)  # a window of few distinct clusters
    at = commit()
    hardware = f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"
    result = json.loads(FILE.read_text()) if FILE.is_file() else {}
    for task in options.tasks:
        model, _, seconds = meta_train(f"configs/streams_{task}.yaml", *rest)
        makers = methods(task, model.learner.eval(), untrained(model, 1).eval())
        pictures: dict[str, Any] = {}
        command = f"python benchmarks/unsupervised/streams.py {task} --streams {options.streams}"
        result[task] = {
            "command": " ".join([command, "--windows", str(options.windows), *rest]),
            "commit": at,
            "seconds_of_meta_training": round(seconds, 1),
            "hardware": hardware,
            "cases": {},
        }
        for case in CASES:
            windows = options.windows * (2 if case == "recurring" else 1)
            rows, picture = run_case(task, case, makers, options.streams, windows)
            show(task, case, rows)
            result[task]["cases"][case] = rows
            FILE.write_text(json.dumps(result, indent=2) + "\n")
            if case in JUMPS:
                pictures[f"{task}, {case}"] = picture
                draw(task, pictures)


if __name__ == "__main__":
    main()
