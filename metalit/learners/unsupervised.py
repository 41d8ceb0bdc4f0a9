"""The unsupervised meta-learner: pseudo-labels, a learner of them, better pseudo-labels."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from torch import Tensor, nn

from ..episodes import Samples
from ..pseudo_labels import (
    ClusterStructure,
    Covariance,
    Groups,
    Keep,
    Opinions,
    Refiner,
    Rule,
    Selection,
    assign,
    choose_number,
    combine,
    fit_structure,
    gather_rules,
    to_log_probabilities,
)
from ..scikit import (
    FLOOR,
    as_table,
    clone_seeded_from,
    fit_clusterer,
    match_labels,
    one_thread,
    size_parameter,
)
from ..tasks.embeddings import embed
from .base import Learner, Predictor

Embed = Callable[[Tensor], Tensor]
"""From inputs `(Q, *features)` to float64 rows `(Q, D)`."""


class Clustering(NamedTuple):
    """The clusters of a support set.

    Attributes:
        labels: Of shape `(S,)` in `[0, clusters)`, -1 for noise.
        clusters: Number of clusters.
        structure: Where they lie in the embedding.
        temperature: Of the structure.
        embed: Embeds other inputs; None if the reducer cannot.
        predict: The base learner, trained on the labels; None if it refused them.
        report: How it came about, as JSON primitives, for people to read.
    """

    labels: Tensor
    clusters: int
    structure: ClusterStructure
    temperature: float
    embed: Embed | None
    predict: Predictor | None
    report: dict[str, Any]


class UnsupervisedMetaLearner(Learner):
    """Clusters a support set, trains a learner on the pseudo-labels and makes them better by it.

    The support set is reduced and clustered; a base learner of any kind is trained on the
    pseudo-labels. What it says of rows that it was not fitted to, and the distances to the
    clusters, are new meta data, from which rows are relabelled, round by round. The best round is
    kept, which may be the clusterer's own partition. A query is answered by the base learner and
    the distances together: log-probabilities
    `log_softmax(base learner + structure / temperature)`.

    Support labels are not looked at, unless `keep="labels"` or a `KnownLabels` rule asks for it.

    Args:
        learner: Base learner of any kind, with as many outputs as there are clusters, or as
            `SklearnClassifier` with as many as there are labels.
        clusterer: Makes the first partition; None takes k-means. Its noise has no pseudo-label at
            first; relabelling gives it one.
        n_clusters: Number of clusters, and of outputs. None chooses it by `selection`, or leaves it
            to a clusterer that finds it by itself, such as DBSCAN; there are then `max_clusters`
            outputs, so that all tasks have one shape, those not used at log 1e-7.
        reducer: Makes rows for the clusterer: a scikit-learn transformer such as `PCA`, fitted to
            each support set, or a trained module from `(N, *features)` to `(N, D)`, which is
            frozen. After one without `transform`, such as t-SNE, queries are answered by the base
            learner alone. The base learner always sees the inputs themselves.
        rounds: Largest number of relabellings; 0 leaves the clusterer's partition as it is.
        selection: Criterion of the number of clusters, see `choose_number`.
        max_clusters: Largest number to choose.
        keep: What the kept round is best in, see `Refiner`.
        rules: What the user knows about the clusters.
        covariance: Of the clusters in the embedding: one each, one for all, or "spherical".
        temperature: First value of the structure's temperature, which the outer loop trains: more
            trusts the base learner more. None fits it in each task, and nothing is trained.
        folds: Folds of the cross-fitting.
        seed: Where all random numbers come from, in every task the same.

    Raises:
        ValueError: If a number is too small, or `n_clusters` does not fit the clusterer.

    Example:
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from metalit.learners import SklearnClassifier
        >>> learner = UnsupervisedMetaLearner(SklearnClassifier(GaussianNB()), n_clusters=2)
        >>> x = torch.tensor([[0.0], [0.1], [0.3], [9.0], [9.1], [9.3]])
        >>> outputs = learner(Samples(x, torch.full((6,), -1)), x)
        >>> outputs.argmax(dim=1).bincount()
        tensor([3, 3])
    """

    def __init__(
        self,
        learner: Learner,
        clusterer: BaseEstimator | None = None,
        n_clusters: int | None = None,
        reducer: BaseEstimator | nn.Module | None = None,
        rounds: int = 10,
        selection: Selection = "silhouette",
        max_clusters: int = 10,
        keep: Keep = "stability",
        rules: Sequence[Rule] = (),
        covariance: Covariance = "full",
        temperature: float | None = None,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if n_clusters is not None and n_clusters < 1:
            raise ValueError(f"n_clusters={n_clusters} must be at least 1, or None.")
        if rounds < 0 or max_clusters < 2 or folds < 2:
            raise ValueError(
                f"rounds={rounds}, max_clusters={max_clusters}, folds={folds} but at least 0, 2 "
                "and 2 are needed: raise them."
            )
        for name, value, known in (
            ("selection", selection, get_args(Selection)),
            ("keep", keep, get_args(Keep)),
            ("covariance", covariance, get_args(Covariance)),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown: choose from {known}.")
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature={temperature} must be above 0, or None to fit it.")
        self.learner = learner
        self.clusterer = clusterer
        self.n_clusters = n_clusters
        self.reducer = reducer
        if isinstance(reducer, nn.Module):  # a copy: the caller's may go on being trained
            self.reducer = copy.deepcopy(reducer).requires_grad_(False)
        self.rounds = rounds
        self.selection = selection
        self.max_clusters = max_clusters
        self.keep = keep
        self.rules = rules
        self.covariance = covariance
        self.temperature = temperature
        self.folds = folds
        self.seed = seed
        self.log_temperature = None
        if temperature is not None:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Cluster the support set, then assign the query inputs to its clusters."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Cluster the support set and train the base learner on the labels that were kept."""
        clustering = self.cluster(support)
        temperature: float | Tensor = clustering.temperature
        if self.log_temperature is not None:
            temperature = self.log_temperature.exp()
        return partial(answer, clustering, temperature, self._width)

    def cluster(self, support: Samples) -> Clustering:
        """Find the clusters of a support set, with a report."""
        if not bool(support.x.isfinite().all()):
            raise ValueError(
                "the support set holds NaN or infinite values but all must be finite: drop or "
                "fill them."
            )
        generator = torch.Generator().manual_seed(self.seed)
        rows, embed_query = self._reduce(support.x, generator)
        labels, clusters, report = self._partition(rows, generator)
        groups = gather_rules(self.rules, support, clusters)
        if self.rules:
            labels = _obey(labels, clusters, groups)
        refine = Refiner(
            *(self.rounds, self.folds, self.covariance, self.keep),
            None if self.log_temperature is None else float(self.log_temperature.detach().exp()),
        )
        kept = refine(self.learner, support, rows, labels, clusters, groups, generator)
        structure = fit_structure(rows, kept.labels, clusters, self.covariance)
        report |= kept.report
        predict, refusal = self._train(support.x, kept.labels, needed=embed_query is None)
        report |= {"answers_by": "structure alone", "refusal": refusal} if refusal else {}
        return Clustering(
            *(kept.labels, clusters, structure, kept.temperature, embed_query, predict, report)
        )

    def _train(
        self, x: Tensor, labels: Tensor, needed: bool
    ) -> tuple[Predictor | None, str | None]:
        """Train the base learner on pseudo-labels; or return why it refuses, unless it is needed.

        Some classifiers refuse classes of one row.
        """
        labels = labels.to(x.device)
        try:
            return self.learner.learn(Samples(x[labels >= 0], labels[labels >= 0])), None
        except ValueError as error:
            if needed:
                raise
            return None, str(error).splitlines()[0]

    @property
    def _width(self) -> int:
        return self.max_clusters if self.n_clusters is None else self.n_clusters

    def _reduce(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Embed | None]:
        """Embed the support inputs; also return what embeds other inputs."""
        if isinstance(self.reducer, nn.Module):
            encode = partial(_encode, self.reducer, self.seed)
            return encode(x), encode
        if self.reducer is None:
            return _flatten(x), _flatten
        reducer = clone_seeded_from(generator, self.reducer)
        with one_thread():
            rows = torch.from_numpy(np.asarray(reducer.fit_transform(as_table(x)))).double()
        can_embed = callable(getattr(reducer, "transform", None))
        return rows, partial(_transform, reducer) if can_embed else None

    def _partition(
        self, rows: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Return the clusterer's labels, the number of clusters and a report."""
        clusterer = KMeans(n_init=10) if self.clusterer is None else self.clusterer
        name, table = type(clusterer).__name__, rows.numpy()
        number, report = self.n_clusters, dict[str, Any](clusterer=name)
        if number is None and size_parameter(clusterer) is not None:
            number, report["curve"] = choose_number(
                *(table, clusterer, self.selection, self.max_clusters, generator)
            )
            report["selection"] = self.selection
        if number is not None and len(rows) < number:
            raise ValueError(
                f"n_samples={len(rows)} should be >= n_clusters={number}: give more rows or lower "
                "n_clusters."
            )
        labels = torch.from_numpy(fit_clusterer(clusterer, table, generator, number)[0])
        found = int(labels.max()) + 1
        if found == 0:
            raise ValueError(
                f"{name} takes all {len(rows)} rows for noise but one cluster or more is needed: "
                "change its parameters."
            )
        if found > self._width:
            raise ValueError(
                f"{name} finds {found} clusters but there are {self._width} outputs: raise "
                f"{'max_clusters' if self.n_clusters is None else 'n_clusters'}, or change its "
                "parameters."
            )
        report["n_clusters"] = number or found
        return labels, number or found, report


def answer(
    clustering: Clustering, temperature: float | Tensor, width: int, query: Tensor
) -> Tensor:
    """Log-probabilities of the clusters for query inputs, of shape `(Q, width)`.

    Columns without a cluster are at log 1e-7.
    """
    dtype = query.dtype if query.is_floating_point() else torch.float32
    answers = torch.zeros(len(query), clustering.clusters, dtype=dtype, device=query.device)
    if clustering.predict is not None:
        answers = to_log_probabilities(clustering.predict(query), clustering.clusters)
    if clustering.embed is not None:
        structure = clustering.structure(clustering.embed(query)).log_softmax(dim=1)
        answers = combine(Opinions(answers, structure.to(answers)), temperature)
    floor = answers.new_full((len(answers), width - clustering.clusters), math.log(FLOOR))
    return torch.cat([answers, floor], dim=1)


def _obey(labels: Tensor, clusters: int, groups: Groups) -> Tensor:
    """The partition of the clusterer, changed as little as the rules ask for; noise stays noise."""
    known = groups.labels[groups.of_row]
    placed = torch.zeros(len(groups.labels), dtype=torch.bool)
    placed[groups.of_row[labels >= 0]] = True
    unknown = (labels < 0) & (known < 0) & ~placed[groups.of_row]
    settled = (placed | (groups.labels >= 0)).tolist()
    rivals = [
        {rival for rival in of_group if settled[rival]} if settled[group] else set()
        for group, of_group in enumerate(groups.rivals)
    ]
    obeyed = assign(_align(labels, clusters, known), groups._replace(rivals=rivals))
    return torch.where(unknown, -1, obeyed)


def _align(labels: Tensor, clusters: int, known: Tensor) -> Tensor:
    """Logits of a partition, its clusters numbered to agree best with the known labels."""
    numbers = torch.from_numpy(match_labels(labels.numpy(), known.numpy(), clusters))
    logits = torch.zeros(len(labels), clusters, dtype=torch.float64)
    labelled = (labels >= 0).nonzero()[:, 0]
    logits[labelled, numbers[labels[labelled]]] = 1
    return logits


def _flatten(x: Tensor) -> Tensor:
    return torch.from_numpy(as_table(x))


def _encode(encoder: nn.Module, seed: int, x: Tensor) -> Tensor:
    return torch.from_numpy(embed(x, encoder, seed)).double()


def _transform(reducer: Any, x: Tensor) -> Tensor:
    with one_thread():
        return torch.from_numpy(np.asarray(reducer.transform(as_table(x)))).double()
