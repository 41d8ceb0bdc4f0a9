"""Ordinary pre-training on unlabelled data: the baseline that meta-training has to beat."""

import copy
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from ..tasks.classes import to_float


class ClusterPretraining:
    """Trains an encoder to name the k-means cluster of each sample, in plain mini-batches.

    This is what one would do without meta-learning: one task for all data, then fine-tuning. It is
    a single round of DeepCluster (Caron et al., 2018) on pixels; the head is thrown away after it.

    Args:
        clusters: Number of k-means clusters.
        epochs: Passes over the data.
        batch_size: Samples per step.
        lr: Step size of Adam.
        random_state: Seed of k-means and of the order of the samples.

    References:
        Deep Clustering for Unsupervised Learning of Visual Features,
        https://arxiv.org/abs/1807.05520
    """

    def __init__(
        self,
        clusters: int = 50,
        epochs: int = 30,
        batch_size: int = 64,
        lr: float = 0.001,
        random_state: int = 0,
    ) -> None:
        self.clusters = clusters
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state

    def __call__(self, network: nn.Module, x: Tensor) -> nn.Module:
        """Return a copy of a network whose `encoder` was trained on x, shape `(N, *features)`.

        Raises:
            ValueError: If the network has no part called `encoder`.
        """
        trained: Any = copy.deepcopy(network)
        if not isinstance(getattr(trained, "encoder", None), nn.Module):
            raise ValueError(
                f"{type(network).__name__} has no part called encoder, which pre-training needs: "
                "name one, or leave pretraining out."
            )
        x = to_float(x)
        k_means = KMeans(self.clusters, n_init=1, random_state=self.random_state)
        labels = torch.from_numpy(k_means.fit_predict(x.flatten(1).numpy())).long()
        generator = torch.Generator().manual_seed(self.random_state)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)
            head = nn.Linear(trained.encoder(x[:2]).shape[1], self.clusters)
        classifier = nn.Sequential(trained.encoder, head).train()
        optimizer = torch.optim.Adam(classifier.parameters(), lr=self.lr)
        for _ in range(self.epochs):
            for batch in torch.split(torch.randperm(len(x), generator=generator), self.batch_size):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(classifier(x[batch]), labels[batch])
                loss.backward()  # type: ignore[no-untyped-call] # torch has no types for it
                optimizer.step()
        copied: nn.Module = trained.requires_grad_(True).eval()
        return copied
