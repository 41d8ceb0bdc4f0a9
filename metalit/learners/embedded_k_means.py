"""Centroid networks: k-means in a learned embedding."""

import math
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from ..episodes import Samples
from ._checks import check_embedding, check_labelled
from ._k_means import draw_starts, fit_centres, free_energy, squared_distances
from .base import Learner, Predictor

Training = Literal["labels", "clusters"]


class EmbeddedKMeans(Learner):
    """Clusters by k-means in a learned embedding (Centroid Networks; Huang et al., 2019).

    The network embeds the support set, whose rows are then clustered by soft k-means; a row chooses
    a centre with probability softmax(-||z - centre||^2 / temperature). With `balanced` the clusters
    get prices, by Sinkhorn's iterations, at which all are chosen equally often (Sinkhorn k-means):
    right for episodes with the same number of rows of every class, and much better there. Of
    several starts the one of the lowest free energy is taken. Query rows choose at the same prices,
    so that the support set itself as query is answered by its own clusters; see `JointTasks`.
    Outputs are log-probabilities. Support labels are looked at only in training, if at all.

    What is trained depends on `train_on`. "labels" is the paper's way: in training mode the centres
    are the means of the labelled (or pseudo-labelled) classes, as in `Prototypes`, and nothing is
    clustered before evaluation; the number of classes may then differ from `n_clusters`, and with
    `AugmentationTasks` of hundreds of classes it is contrastive learning. "clusters" clusters in
    training too and lets the gradient back through all steps; the outer loss must then not depend
    on the clusters' order (`MatchedCrossEntropy`, `SoftAdjustedRand`).

    Departs from the paper: rows of the embedding have unit length by default, the first centres are
    drawn by k-means++ in several starts, where the paper starts at 0 and adds noise in each step,
    and the loss that pulls rows to their centre is left out.

    Args:
        network: Maps x of shape `(N, *features)` to embeddings of shape `(N, D)`.
        n_clusters: Number of clusters, K.
        balanced: Whether clusters are equally large. False is soft k-means.
        temperature: In squared distances of embeddings. In training with "labels" it divides the
            distances too.
        normalized: Scale embeddings to unit length, so that squared distances are at most 4.
        train_on: "labels" or "clusters".
        starts: Draws of first centres; memory grows with starts * rows * clusters.
        steps: Updates of the centres.
        iterations: Of Sinkhorn, in each step.
        seed: Where first centres come from, in every task the same.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [9.0], [9.1]])
        >>> learner = EmbeddedKMeans(nn.Identity(), n_clusters=2, normalized=False).eval()
        >>> learner(Samples(x, torch.full((4,), -1)), x).softmax(dim=1).round().T.sort().values
        tensor([[0., 0., 1., 1.],
                [0., 0., 1., 1.]])

    References:
        Centroid Networks for Few-Shot Clustering and Unsupervised Few-Shot Classification,
        https://arxiv.org/abs/1902.08605
        Sinkhorn Distances, https://arxiv.org/abs/1306.0895
    """

    def __init__(
        self,
        network: nn.Module,
        n_clusters: int,
        balanced: bool = True,
        temperature: float = 0.1,
        normalized: bool = True,
        train_on: Training = "labels",
        starts: int = 20,
        steps: int = 10,
        iterations: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature={temperature} must be positive, for example 0.1.")
        if train_on not in get_args(Training):
            raise ValueError(f"train_on={train_on!r} is unknown: use 'labels' or 'clusters'.")
        counts = {"n_clusters": n_clusters, "starts": starts, "steps": steps}
        for name, value in {**counts, "iterations": iterations}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1: raise it.")
        self.network = network
        self.n_clusters = n_clusters
        self.balanced = balanced
        self.temperature = temperature
        self.normalized = normalized
        self.train_on = train_on
        self.starts = starts
        self.steps = steps
        self.iterations = iterations
        self.seed = seed

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Cluster the embedded support set, then let the query inputs choose."""
        return self.learn(support)(query)

    def learn(self, support: Samples) -> Predictor:
        """Embed and cluster the support rows; in training on labels average the classes."""
        if self.training and self.train_on == "labels":
            labelled = support.y >= 0
            members = one_hot(support.y[labelled])  # [S, W]
            z = self._embed(support.x[labelled])
            sizes = members.sum(dim=0).clamp_min(1)
            centres = members.T.to(z) @ z / sizes.unsqueeze(1)
            return partial(self._choose, centres, z.new_zeros(1, len(centres)))
        centres, price = self._cluster(self._embed(support.x))
        return partial(self._choose, centres, price)

    def check(self, support: Samples) -> None:
        """Refuse inputs that do not fit the network, too few rows, and labels that are missing."""
        if self.training and self.train_on == "labels":
            check_labelled("EmbeddedKMeans(train_on='labels')", support)
        elif len(support.x) < self.n_clusters:
            raise ValueError(
                f"the support set has {len(support.x)} rows but n_clusters={self.n_clusters}: "
                "give more rows or lower n_clusters."
            )
        check_embedding(self.network, support.x)

    def _embed(self, x: Tensor) -> Tensor:
        z: Tensor = self.network(x)
        return normalize(z, dim=1) if self.normalized else z

    def _cluster(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Centres `(K, D)` and prices `(1, K)` of the start that ends lowest."""
        settings = self.temperature, self.balanced, self.iterations, self.steps
        with torch.no_grad():
            generator = torch.Generator().manual_seed(self.seed)
            rows = draw_starts(z.detach(), self.n_clusters, self.starts, generator)
            ends = fit_centres(z, z[rows], *settings)
            best = free_energy(z, *ends, self.temperature).argmin()
        # once more, with the gradient of one start and not of all
        return fit_centres(z, z[rows[best]], *settings)

    def _choose(self, centres: Tensor, price: Tensor, query: Tensor) -> Tensor:
        cost = squared_distances(self._embed(query), centres)
        return ((price - cost) / self.temperature).log_softmax(dim=1)
