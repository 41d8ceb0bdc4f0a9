"""Episodes from clusters of unlabelled data."""

import logging
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from torch import Tensor, nn

from ..episodes import Episode, first
from ..scikit import one_thread, seeded_clone
from .base import TaskDistribution
from .classes import ClassIndex, check_data, check_sizes, class_episodes, no_data
from .embeddings import embed

_log = logging.getLogger(__name__)


class ClusterTasks(TaskDistribution):
    """CACTUs: clusters of an embedding are the classes (Hsu et al., 2019).

    All samples are embedded once and clustered several times. The embedding's dimensions are
    scaled by random numbers in [0, 1) before each clustering, so that every partition sees the
    data from another side. An episode picks a partition, `way` of its clusters, and members of
    those; their clusters are their pseudo-labels. True labels are never looked at. Clusters with
    fewer than shot + query_shot members are left out, and partitions with fewer than `way` others.

    Args:
        way: Clusters, and so classes, per episode.
        shot: Support samples per class.
        query_shot: Query samples per class.
        clusters: Clusters of each partition of the default clusterer, k-means with one start. Far
            more than the classes one expects gives purer clusters. `MiniBatchKMeans` as
            `clusterer` is about five times as fast and loses some clusters.
        partitions: Number of clusterings.
        embedding: Maps samples to vectors: None takes the values as they are; a scikit-learn
            transformer such as `PCA` is cloned and fitted; a module maps `(N, *features)` to
            `(N, D)` and is put into evaluation mode.
        clusterer: Any scikit-learn clusterer, cloned for each partition, with its `random_state`
            set where it has one; samples that it calls noise are left out. Replaces k-means and
            `clusters`.
        random_scaling: Whether to scale the dimensions. Without it partitions differ only by the
            clusterer's random_state, and not at all for one that has none.
        random_state: Seed of the scales, the clusterer and the embedding.

    Raises:
        ValueError: If a size, `clusters` or `partitions` is smaller than 1.

    Example:
        >>> from sklearn.decomposition import PCA
        >>> tasks = ClusterTasks(3, 1, 2, clusters=5, partitions=2, embedding=PCA(4))
        >>> episode = tasks.fit(torch.rand(60, 1, 8, 8)).sample(torch.Generator().manual_seed(0))
        >>> episode.query.x.shape
        torch.Size([6, 1, 8, 8])

    References:
        Unsupervised Learning via Meta-Learning, https://arxiv.org/abs/1810.02334
    """

    def __init__(
        self,
        way: int = 5,
        shot: int = 1,
        query_shot: int = 5,
        clusters: int = 500,
        partitions: int = 50,
        embedding: BaseEstimator | nn.Module | None = None,
        clusterer: BaseEstimator | None = None,
        random_scaling: bool = True,
        random_state: int = 0,
    ) -> None:
        check_sizes(way, shot, query_shot)
        if min(clusters, partitions) < 1:
            raise ValueError(
                f"clusters={clusters}, partitions={partitions} but each must be at least 1: raise "
                "the smaller."
            )
        self.way = way
        self.shot = shot
        self.query_shot = query_shot
        self.clusters = clusters
        self.partitions = partitions
        self.embedding = embedding
        self.clusterer = clusterer
        self.random_scaling = random_scaling
        self.random_state = random_state
        self._data: tuple[Tensor, list[ClassIndex]] | None = None

    def fit(self, x: Tensor, y: Tensor | None = None) -> Self:
        """Embed and cluster the samples; minutes for tens of thousands and 50 partitions.

        Args:
            x: Samples of shape `(N, *features)`, float32, or uint8 images of 0 to 255.
            y: Ignored.

        Raises:
            ValueError: If there are fewer samples than clusters, the embedding is no finite
                `(N, D)`, or no partition has `way` large enough clusters.
        """
        check_data(x, None)
        needed = self.shot + self.query_shot
        if self.clusterer is None and len(x) < self.clusters:
            raise ValueError(
                f"the data have {len(x)} samples but clusters = {self.clusters}: lower clusters, "
                f"to {max(1, len(x) // needed)} or fewer for shot + query_shot = {needed}."
            )
        embedded = embed(x, self.embedding, self.random_state)
        found, usable, indices = 0, 0, []
        for number in range(self.partitions):
            index = ClassIndex.from_labels(self._partition(embedded, number))
            large = index.at_least(needed)
            found, usable = max(found, len(index)), max(usable, len(large))
            if len(large) >= self.way:
                indices.append(large)
        if not indices:
            raise ValueError(
                f"{self.partitions} partitions have at most {found} clusters, and {usable} with "
                f"shot + query_shot = {needed} members or more, but way = {self.way} are needed: "
                f"{self._advice(found)}."
            )
        _log.info(
            "%d of %d partitions are usable, with up to %d clusters of at least %d members",
            *(len(indices), self.partitions, usable, needed),
        )
        self._data = x, indices
        return self

    def sample(self, generator: torch.Generator) -> Episode:
        """Draw one episode; x and y in class-major order.

        Raises:
            RuntimeError: If `fit` was not called.
        """
        return first(self.sample_batch([generator]))

    def sample_batch(self, generators: Sequence[torch.Generator]) -> Episode:
        """Draw the samples of each episode, and look all of them up at once."""
        if self._data is None:
            raise no_data(self)
        x, partitions = self._data
        drawn = []
        for generator in generators:
            classes = partitions[int(torch.randint(len(partitions), (), generator=generator))]
            drawn.append(classes.draw(self.way, self.shot + self.query_shot, [generator]))
        return class_episodes(x, torch.cat(drawn), self.shot)

    def _partition(self, embedded: NDArray[np.float32], number: int) -> Tensor:
        """Cluster a scaled embedding, float32 `(N, D)`; return labels `(N,)`, -1 for noise."""
        random = np.random.default_rng([self.random_state, number])
        if self.random_scaling:
            embedded = embedded * random.random(embedded.shape[1], dtype=np.float32)
        clusterer = KMeans(self.clusters, n_init=1) if self.clusterer is None else self.clusterer
        clusterer = seeded_clone(clusterer, int(random.integers(2**31)))
        # one thread: k-means adds up the threads' sums in whatever order they finish, and the
        # same seed must give the same clusters on every rank and after a restart
        # duplicates make k-means find fewer clusters than asked for; `fit` counts them
        with one_thread():
            labels = clusterer.fit_predict(embedded)
        return torch.as_tensor(np.asarray(labels, dtype=np.int64))

    def _advice(self, found: int) -> str:
        """What to do about too few usable clusters."""
        if self.clusterer is not None:
            return f"change the parameters of {type(self.clusterer).__name__}, or lower query_shot"
        if found < self.way:
            return "raise clusters, lower way, or give data with fewer duplicates"
        return "lower clusters, query_shot or way"
