"""Degenerate tables, and all that could hang on them, crash or answer nonsense."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans, MeanShift
from sklearn.datasets import make_blobs
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from torch import Tensor, nn

from metalit.combinations import Consensus, RankAverage
from metalit.episodes import Episode, Samples
from metalit.estimators import (
    MetaClusterer,
    MetaDetector,
    PseudoLabelClusterer,
    SuperLearnerClassifier,
    SuperLearnerClusterer,
    SuperLearnerDetector,
    SuperLearnerRegressor,
)
from metalit.learners import (
    EmbeddedKMeans,
    Learner,
    Prototypes,
    SklearnClassifier,
    SklearnClusterer,
    SklearnDetector,
    SklearnRegressor,
    SupervisedMetaLearner,
    UnsupervisedMetaLearner,
)
from metalit.tasks import (
    BlobTasks,
    ClassOutTasks,
    ClusterTasks,
    Curriculum,
    JointTasks,
    LabelTasks,
    MixedTasks,
    OutlierTasks,
    PrincipalTasks,
    SinusoidTasks,
    StreamTasks,
    TableCuts,
    TableTasks,
    TaskDistribution,
)

Table = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
Outputs = list[np.ndarray[Any, Any]]


def _tables() -> dict[str, Table]:
    """Rows of 3 columns, with labels of 2 classes where the case does not forbid it."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(120, 3)), np.arange(120) % 2
    spoilt, endless = x.copy(), x.copy()
    spoilt[7, 1], endless[7, 1] = np.nan, np.inf
    constant = x.copy()
    constant[:, 1:] = 4.0
    far = x.copy()
    far[0] = 1e12
    return {
        "duplicates": (np.ones((120, 3)), y),
        "two different rows": (np.eye(3)[y], y),
        "noise": (x, random.permutation(y)),
        "three rows": (x[:3], np.array([0, 1, 0])),
        "two rows": (x[:2], np.array([0, 1])),
        "one row": (x[:1], y[:1]),
        "no row": (x[:0], y[:0]),
        "constant columns": (constant, y),
        "NaN": (spoilt, y),
        "inf": (endless, y),
        "all NaN": (np.full((120, 3), np.nan), y),
        "huge": (x * 1e30, y),
        "tiny": (x * 1e-30, y),
        "one far row": (far, y),
        "one class": (x, np.zeros(120, dtype=np.int64)),
        "a class of one": (x, (np.arange(120) == 5).astype(np.int64)),
        "no labels": (x, np.full(120, -1)),
    }


TABLES = _tables()


def _sampled(tasks: TaskDistribution, x: Any, y: Any) -> Outputs:
    """Fit a distribution and draw twenty episodes."""
    rows = torch.from_numpy(np.asarray(x, dtype=np.float32))
    fitted = tasks.fit(rows, torch.from_numpy(np.asarray(y)))
    return _drawn(fitted)


def _drawn(tasks: TaskDistribution) -> Outputs:
    episodes: list[Episode] = [
        tasks.at(seed).sample(torch.Generator().manual_seed(seed)) for seed in range(20)
    ]
    return [part.numpy() for episode in episodes for samples in episode for part in samples]


def _learned(learner: Learner, x: Any, y: Any, targets: bool = False) -> Outputs:
    """Check, learn and answer, as training does with an episode."""
    rows = torch.from_numpy(np.asarray(x, dtype=np.float32))
    labels: Tensor = torch.from_numpy(np.asarray(y))
    support = Samples(rows, labels.float()[:, None] if targets else labels)
    learner.eval()
    with torch.no_grad():
        learner.check(support)
        return [learner(support, rows[:10]).numpy()]


def _estimated(estimator: Any, x: Any, y: Any) -> Outputs:
    """Fit an estimator and ask it all that it answers."""
    estimator.fit(x, y)
    asked = ("predict", "predict_proba", "transform", "score_samples", "decision_function")
    known = [method for name in asked if callable(method := getattr(estimator, name, None))]
    return [np.asarray(method(x)) for method in known]


def _two_learners(learner: Learner, other: Learner, combination: Any = None) -> Learner:
    return SupervisedMetaLearner({"one": learner, "other": other}, combination)


DISTRIBUTIONS: dict[str, Callable[[], TaskDistribution]] = {
    "LabelTasks": lambda: LabelTasks(2, 1, 2),
    "ClusterTasks": lambda: ClusterTasks(2, 1, 2, clusters=4, partitions=3),
    "ClusterTasks of DBSCAN": lambda: ClusterTasks(2, 1, 2, partitions=3, clusterer=DBSCAN(0.1)),
    "ClusterTasks of HDBSCAN": lambda: ClusterTasks(2, 1, 2, partitions=3, clusterer=HDBSCAN()),
    "ClassOutTasks": ClassOutTasks,
    "TableCuts": TableCuts,
    "PrincipalTasks": lambda: PrincipalTasks(LabelTasks(2, 1, 2), 2),
    "JointTasks": lambda: JointTasks(LabelTasks(2, 1, 2)),
    "MixedTasks": lambda: MixedTasks([LabelTasks(2, 1, 2), TableCuts()]),
    "Curriculum": lambda: Curriculum(SinusoidTasks(), LabelTasks(2, 1, 2), episodes=20),
}
LEARNERS: dict[str, Callable[[], Learner]] = {
    "KMeans": lambda: SklearnClusterer(KMeans(n_init=1), n_clusters=3),
    "GaussianMixture": lambda: SklearnClusterer(GaussianMixture(), n_clusters=3),
    "Agglomerative": lambda: SklearnClusterer(AgglomerativeClustering(), n_clusters=3),
    "DBSCAN": lambda: SklearnClusterer(DBSCAN(0.5)),
    "HDBSCAN": lambda: SklearnClusterer(HDBSCAN()),
    "MeanShift": lambda: SklearnClusterer(MeanShift()),
    "LogisticRegression": lambda: SklearnClassifier(LogisticRegression()),
    "nearest neighbours": lambda: SklearnClassifier(KNeighborsClassifier(3)),
    "IsolationForest": lambda: SklearnDetector(IsolationForest(n_estimators=10)),
    "EmbeddedKMeans": lambda: EmbeddedKMeans(nn.Identity(), 3),
    "EmbeddedKMeans, any length": lambda: EmbeddedKMeans(nn.Identity(), 3, normalized=False),
    "Prototypes": lambda: Prototypes(nn.Identity()),
    "Prototypes by cosine": lambda: Prototypes(nn.Identity(), "cosine", 0.1),
    "UnsupervisedMetaLearner": lambda: UnsupervisedMetaLearner(
        SklearnClassifier(LogisticRegression()), n_clusters=3
    ),
    "its choice of the number": lambda: UnsupervisedMetaLearner(
        SklearnClassifier(LogisticRegression()), max_clusters=4, rounds=2
    ),
    "its DBSCAN": lambda: UnsupervisedMetaLearner(
        SklearnClassifier(LogisticRegression()), clusterer=DBSCAN(0.5)
    ),
    "a super learner": lambda: _two_learners(
        SklearnClassifier(LogisticRegression()), SklearnClassifier(KNeighborsClassifier(1))
    ),
    "a super learner of clusterers": lambda: _two_learners(
        SklearnClusterer(KMeans(n_init=1), n_clusters=3),
        SklearnClusterer(GaussianMixture(), n_clusters=3),
        Consensus(n_clusters=3),
    ),
    "a super learner of detectors": lambda: _two_learners(
        SklearnDetector(IsolationForest(n_estimators=10)),
        SklearnDetector(LocalOutlierFactor(5, novelty=True)),
        RankAverage(),
    ),
}
ESTIMATORS: dict[str, Callable[[], Any]] = {
    "PseudoLabelClusterer": lambda: PseudoLabelClusterer(3, random_state=0),
    "PseudoLabelClusterer by gap": lambda: PseudoLabelClusterer(
        selection="gap", max_clusters=3, random_state=0
    ),
    "PseudoLabelClusterer by BIC": lambda: PseudoLabelClusterer(
        selection="bic", max_clusters=3, random_state=0
    ),
    "PseudoLabelClusterer by stability": lambda: PseudoLabelClusterer(
        selection="stability", max_clusters=3, random_state=0
    ),
    "MetaClusterer": lambda: MetaClusterer(3),
    "MetaClusterer, any number": MetaClusterer,
    "MetaDetector": MetaDetector,
    "SuperLearnerClusterer": lambda: SuperLearnerClusterer(3, random_state=0),
    "SuperLearnerDetector": lambda: SuperLearnerDetector(random_state=0),
    "SuperLearnerClassifier": lambda: SuperLearnerClassifier(random_state=0),
    "SuperLearnerRegressor": lambda: SuperLearnerRegressor(random_state=0),
}


def _same(n_samples: int, random_state: int, value: float = 1.0) -> Table:
    """A maker of equal rows."""
    return np.full((n_samples, 2), value), np.arange(n_samples) % 3


def _texts(n_samples: int, random_state: int) -> Table:
    """A maker of integers as text."""
    return np.array([["1", "2"]] * n_samples), np.arange(n_samples) % 3


def _few(n_samples: int, random_state: int) -> Table:
    """A maker that does not keep to the number of rows."""
    return np.eye(2), np.arange(2)


class _Impossible(TaskDistribution):
    """A part of a mixture that never gives an episode."""

    def sample(self, generator: torch.Generator) -> Episode:
        raise ValueError("no task can be drawn from this: give another.")


MADE: dict[str, Callable[[], TaskDistribution]] = {
    "DBSCAN takes all for noise": lambda: BlobTasks(20, 20, teacher=DBSCAN(1e-9)),
    "DBSCAN finds one cluster": lambda: BlobTasks(20, 20, teacher=DBSCAN(1e9)),
    "HDBSCAN takes all for noise": lambda: BlobTasks(20, 20, teacher=HDBSCAN(20)),
    "KMeans of equal rows": lambda: BlobTasks(20, 20, maker=_same, teacher=KMeans(3)),
    "KMeans of NaN": lambda: BlobTasks(
        20, 20, maker=_same, maker_args={"value": np.nan}, teacher=KMeans(3)
    ),
    "HDBSCAN of NaN": lambda: BlobTasks(
        20, 20, maker=_same, maker_args={"value": np.nan}, teacher=HDBSCAN()
    ),
    "no teacher of inf": lambda: BlobTasks(20, 20, maker=_same, maker_args={"value": np.inf}),
    "rows beyond float32": lambda: BlobTasks(20, 20, maker=_same, maker_args={"value": 1e39}),
    "integers as text": lambda: BlobTasks(20, 20, maker=_texts),
    "fewer rows than asked": lambda: BlobTasks(20, 20, way=2, maker=_few),
    "more clusters than rows": lambda: BlobTasks(4, 2, maker=make_blobs, teacher=KMeans(9)),
    "a mixture with an impossible part": lambda: MixedTasks([SinusoidTasks(), _Impossible()]),
    "a curriculum to the impossible": lambda: Curriculum(SinusoidTasks(), _Impossible(), 10),
    "a mixture without a weight": lambda: MixedTasks([SinusoidTasks()], [float("nan")]),
    "a mixture of infinite weight": lambda: MixedTasks([SinusoidTasks()] * 2, [1, float("inf")]),
    "sine waves of NaN": lambda: SinusoidTasks(amplitude=(float("nan"), 1.0)),
    "sine waves of inf": lambda: SinusoidTasks(domain=(0.0, float("inf"))),
    "outliers without a normal row": lambda: OutlierTasks(contamination=1.0),
    "outliers of a share of NaN": lambda: OutlierTasks(contamination=float("nan")),
    "streams of a share of NaN": lambda: StreamTasks(contamination=float("nan")),
    "streams of freedom NaN": lambda: StreamTasks(freedom=float("nan")),
    "tables of difficulty NaN": lambda: TableTasks(difficulty=(0.0, float("nan"))),
    "classes out of no rows": lambda: ClassOutTasks(rows=0),
}


def cases() -> Iterator[tuple[str, Callable[[], Outputs]]]:
    """All cases: a name, and what makes the outputs, or raises."""
    for name, make in MADE.items():
        yield f"made: {name}", lambda make=make: _drawn(make())
    groups: tuple[tuple[str, dict[str, Callable[[], Any]], Callable[..., Outputs]], ...] = (
        ("tasks", DISTRIBUTIONS, _sampled),
        ("learner", LEARNERS, _learned),
        ("estimator", ESTIMATORS, _estimated),
    )
    for kind, things, use in groups:
        for name, make in things.items():
            for table, (x, y) in TABLES.items():
                yield (
                    f"{kind}: {name} on {table}",
                    lambda make=make, use=use, x=x, y=y: use(make(), x, y),
                )
    for table, (x, y) in TABLES.items():
        yield (
            f"learner: Ridge on {table}",
            lambda x=x, y=y: _learned(SklearnRegressor(Ridge()), x, y, targets=True),
        )
