import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans, MiniBatchKMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from metalit.tasks.clusters import ClusterTasks
from metalit.tasks.embeddings import embed


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(classes: int = 4, members: int = 20, std: float = 0.05) -> tuple[Tensor, Tensor]:
    """Well separated blobs; the last feature is the sample's own number, too small to matter."""
    centres = 10 * np.eye(classes, 5)
    x, y = make_blobs([members] * classes, centers=centres, cluster_std=std, random_state=0)
    number = np.arange(len(x))[:, None] * 1e-4
    return torch.tensor(np.hstack([x, number]), dtype=torch.float32), torch.tensor(y)


def numbers(x: Tensor) -> Tensor:
    return (x[:, -1] * 1e4).round().long()


def drawn(tasks: ClusterTasks, seed: int) -> tuple[Tensor, Tensor]:
    """Members of an episode's classes, `(way, shot)` and `(way, query_shot)`."""
    episode = tasks.sample(seeded(seed))
    return numbers(episode.support.x).view(tasks.way, -1), numbers(episode.query.x).view(
        tasks.way, -1
    )


CLUSTERERS = [
    None,
    KMeans(4, n_init=2),
    MiniBatchKMeans(4, n_init=5),
    AgglomerativeClustering(4),
    DBSCAN(eps=1.0),
    HDBSCAN(min_cluster_size=5, copy=True),
    GaussianMixture(4),
]


@pytest.mark.parametrize("clusterer", CLUSTERERS, ids=lambda c: type(c).__name__)
def test_pseudo_labels_of_separated_blobs_are_the_true_classes(clusterer) -> None:
    x, y = blobs()
    tasks = ClusterTasks(
        3, 2, 4, clusters=4, partitions=1, clusterer=clusterer, random_scaling=False, random_state=1
    ).fit(x)
    for seed in range(5):
        support, query = drawn(tasks, seed)
        true = y[support[:, 0]]
        assert len(true.unique()) == 3
        assert (y[support] == true[:, None]).all()
        assert (y[query] == true[:, None]).all()
        assert len(torch.cat([support, query], 1).unique()) == 3 * 6


def test_partitions_equal_scikit_learn_on_randomly_scaled_dimensions() -> None:
    x = torch.rand(80, 6, generator=seeded(2))
    x[:, -1] = torch.arange(80) * 1e-4
    tasks = ClusterTasks(3, 1, 2, clusters=8, partitions=3, random_state=5).fit(x)
    labels = []
    for number in range(3):
        random = np.random.default_rng([5, number])
        scaled = x.numpy() * random.random(6, dtype=np.float32)
        state = int(random.integers(2**31))
        labels.append(KMeans(8, n_init=1, random_state=state).fit_predict(scaled))
    used = set()
    for seed in range(40):
        support, query = drawn(tasks, seed)
        rows = torch.cat([support, query], 1).numpy()
        fits = [
            number
            for number, label in enumerate(labels)
            if (label[rows] == label[rows[:, :1]]).all() and len(set(label[rows[:, 0]])) == 3
        ]
        assert fits, "the members of a class share a cluster in one partition"
        used |= set(fits) if len(fits) == 1 else set()
    assert used == {0, 1, 2}
    assert len({tuple(label) for label in labels}) == 3


def test_clusters_that_are_too_small_are_never_drawn() -> None:
    x, y = blobs(4)
    keep = (y != 2) | (torch.cumsum(y == 2, 0) <= 5)
    tasks = ClusterTasks(3, 1, 5, clusters=4, partitions=1, random_scaling=False, random_state=1)
    tasks.fit(x[keep])
    for seed in range(10):
        assert not (y[drawn(tasks, seed)[0]] == 2).any()


def test_noise_is_left_out() -> None:
    x, _ = blobs(4)
    x[:10, :5] = 100 * torch.rand(10, 5, generator=seeded(0)) + 50
    tasks = ClusterTasks(4, 1, 5, partitions=1, clusterer=DBSCAN(eps=1.0), random_scaling=False)
    tasks.fit(x)
    seen = torch.cat([torch.cat(drawn(tasks, seed), 1).flatten() for seed in range(30)])
    assert seen.min() >= 10
    assert len(seen.unique()) == 70


def test_equal_seeds_give_equal_episodes_and_labels_change_nothing() -> None:
    x = torch.rand(80, 6, generator=seeded(2))
    first, second, other = (
        ClusterTasks(3, 1, 2, clusters=8, partitions=2, random_state=state).fit(x, y)
        for state, y in ((0, None), (0, torch.arange(80)), (1, None))
    )
    episodes = [[t.sample(seeded(s)).support.x for s in range(5)] for t in (first, second, other)]
    assert all(torch.equal(a, b) for a, b in zip(episodes[0], episodes[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(episodes[0], episodes[2], strict=True))


class FirstFeatures(nn.Module):
    """Encodes to the first features; drops everything in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) <= 256
        assert not torch.is_grad_enabled()
        return self.dropout(x)[:, :5]


@pytest.mark.parametrize(
    "embedding", [PCA(4), FirstFeatures(), None], ids=lambda embedding: type(embedding).__name__
)
def test_embeddings_keep_separated_blobs_apart(embedding) -> None:
    x, y = blobs(4, 100)
    tasks = ClusterTasks(
        4, 2, 3, clusters=4, partitions=1, embedding=embedding, random_scaling=False, random_state=1
    ).fit(x)
    support, query = drawn(tasks, 0)
    assert sorted(y[support[:, 0]].tolist()) == [0, 1, 2, 3]
    assert (y[torch.cat([support, query], 1)] == y[support[:, :1]]).all()


def test_raw_pixels_of_uint8_images_are_clustered() -> None:
    x = torch.zeros(60, 1, 4, 4, dtype=torch.uint8)
    x[:, 0, 0] = (torch.arange(60) % 3 * 100)[:, None].to(torch.uint8)
    episode = ClusterTasks(3, 1, 4, clusters=3, partitions=2).fit(x).sample(seeded(0))
    shades = episode.support.x[:, 0, 0, 0]
    assert sorted((shades * 255).round().tolist()) == [0.0, 100.0, 200.0]
    assert torch.equal(episode.query.x[:, 0, 0, 0], shades[episode.query.y])


def test_the_given_estimators_are_not_changed() -> None:
    clusterer, embedding = KMeans(4), PCA(3)
    ClusterTasks(3, 1, 2, partitions=1, embedding=embedding, clusterer=clusterer).fit(blobs()[0])
    assert clusterer.random_state is None
    assert "labels_" not in vars(clusterer)
    assert "components_" not in vars(embedding)


def test_duplicates_are_refused_in_one_line_and_without_a_warning() -> None:
    x = torch.ones(60, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="at most 1 clusters, and 1 with") as error:
            ClusterTasks(3, 1, 2, clusters=8, partitions=2).fit(x)
    assert "raise clusters, lower way, or give data with fewer duplicates" in str(error.value)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (ClusterTasks(3, 1, 2, clusters=81), "the data have 80 samples but clusters = 81: lower"),
        (
            ClusterTasks(3, 1, 20, clusters=4, partitions=2, random_scaling=False, random_state=1),
            r"at most 4 clusters, and 0 with shot \+ query_shot = 21 members or more, but way = 3",
        ),
        (
            ClusterTasks(3, 1, 2, partitions=1, clusterer=DBSCAN(eps=1e-9)),
            "at most 0 clusters.*change the parameters of DBSCAN",
        ),
        (
            ClusterTasks(3, 1, 2, clusters=4, embedding=nn.Unflatten(1, (2, 3))),
            r"the embedding Unflatten returns shape \(80, 2, 3\) for 80 samples",
        ),
        (
            ClusterTasks(3, 1, 2, clusters=4, embedding=nn.Threshold(100.0, float("nan"))),
            "the embedding Threshold returns NaN",
        ),
    ],
)
def test_data_without_an_episode_are_refused_in_one_line(tasks, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        tasks.fit(blobs()[0])
    assert "\n" not in str(error.value)


def test_sampling_before_fit_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match="ClusterTasks has no data"):
        ClusterTasks().sample(seeded(0))


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="partitions=0"):
        ClusterTasks(partitions=0)


def test_an_encoder_with_batch_statistics_does_not_erase_the_classes_of_sorted_data():
    generator = torch.Generator().manual_seed(0)
    x = (
        torch.randn(1024, 2, generator=generator)
        + torch.tensor([-5.0, 5.0]).repeat_interleave(512)[:, None]
    )
    encoder = nn.BatchNorm1d(2, affine=False, track_running_stats=False)
    embedded = torch.as_tensor(embed(x, encoder))
    # batches of one class alone would each be centred at 0
    assert float(embedded[512:].mean() - embedded[:512].mean()) > 1.5
