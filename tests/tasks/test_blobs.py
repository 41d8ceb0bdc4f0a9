"""Clustering tasks against scikit-learn fitted by hand."""

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN, HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.datasets import make_circles, make_classification, make_moons
from sklearn.metrics import accuracy_score, adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from metalit.tasks.blobs import BlobTasks
from metalit.tasks.teacher import agree

BLOBS = {"centers": 3, "n_features": 10}
TEACHERS = {
    "none": None,
    "k_means": KMeans(n_clusters=3, n_init=1),
    "mixture": GaussianMixture(n_components=3),
    "dbscan": DBSCAN(eps=5.0),
    "hdbscan": HDBSCAN(min_cluster_size=5, copy=True),
    "agglomerative": AgglomerativeClustering(n_clusters=3),
    "pipeline": make_pipeline(StandardScaler(), KMeans(n_clusters=3)),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def equal(a, b):
    return all(map(torch.equal, (*a.support, *a.query), (*b.support, *b.query)))


@pytest.fixture(params=TEACHERS)
def teacher(request):
    return TEACHERS[request.param]


@pytest.mark.parametrize("true_query_labels", [False, True])
def test_an_episode_is_a_pure_function_of_its_generator(teacher, true_query_labels):
    tasks = BlobTasks(
        40, 30, 3, maker_args=BLOBS, teacher=teacher, true_query_labels=true_query_labels
    )
    first = [tasks.sample(seeded(seed)) for seed in range(3)]
    again = [tasks.sample(seeded(seed)) for seed in range(3)]
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].support.x, first[1].support.x)


def test_episodes_have_the_promised_shapes_and_types(teacher):
    support, query = BlobTasks(40, 30, 3, maker_args=BLOBS, teacher=teacher).sample(seeded(0))
    assert support.x.shape == (40, 10)
    assert query.x.shape == (30, 10)
    assert support.y.shape == (40,)
    assert query.y.shape == (30,)
    assert support.x.dtype == query.x.dtype == torch.float32
    assert support.y.dtype == query.y.dtype == torch.int64
    assert support.y.max() < 3
    assert query.y.max() < 3


def test_the_teacher_labels_both_sets_as_when_fitted_by_hand():
    tasks = BlobTasks(40, 30, maker_args=BLOBS, teacher=AgglomerativeClustering(n_clusters=3))
    support, query = tasks.sample(seeded(1))
    labels = AgglomerativeClustering(n_clusters=3).fit_predict(support.x.numpy())
    assert adjusted_rand_score(labels, support.y) == 1
    nearest = [((support.x - row) ** 2).sum(1).argmin() for row in query.x]
    assert torch.equal(query.y, support.y[torch.stack(nearest)])


def test_a_teacher_with_predict_labels_the_query_by_it():
    support, query = BlobTasks(maker_args=BLOBS, teacher=KMeans(n_clusters=3)).sample(seeded(2))
    centres = torch.stack([support.x[support.y == label].mean(0) for label in range(3)])
    assert torch.equal(torch.cdist(query.x, centres).argmin(1), query.y)


def test_without_a_teacher_only_the_query_has_labels_and_they_are_true():
    args = {"centers": [[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], "cluster_std": 1.0}
    support, query = BlobTasks(30, 30, 3, maker_args=args).sample(seeded(0))
    assert (support.y == -1).all()
    assert torch.equal(torch.cdist(query.x, torch.tensor(args["centers"])).argmin(1), query.y)


def test_support_and_query_come_from_the_same_clusters_even_if_the_maker_does_not_shuffle():
    maker_args = {"shuffle": False, "noise": 0.02}
    support, query = BlobTasks(60, 60, 2, make_moons, maker_args).sample(seeded(0))
    assert query.y.unique().tolist() == [0, 1]
    assert torch.cdist(query.x, support.x).amin(1).max() < 0.5


def test_true_query_labels_keep_the_partition_and_take_the_teachers_numbers():
    args = BLOBS | {"cluster_std": 5.0}  # overlapping: the teacher is not always right
    taught = BlobTasks(maker_args=args, teacher=KMeans(n_clusters=3))
    true = BlobTasks(maker_args=args, teacher=KMeans(n_clusters=3), true_query_labels=True)
    untaught = BlobTasks(maker_args=args)
    agreement = []
    for seed in range(5):
        truth = true.sample(seeded(seed))
        assert torch.equal(truth.support.y, taught.sample(seeded(seed)).support.y)
        assert adjusted_rand_score(truth.query.y, untaught.sample(seeded(seed)).query.y) == 1
        agreement.append(accuracy_score(truth.query.y, taught.sample(seeded(seed)).query.y))
    assert 0.6 < np.mean(agreement) < 1


def test_agree_undoes_a_permutation_and_leaves_noise_out():
    truth, labels = np.array([0, 0, 1, 1, 2, 2, 0]), np.array([2, 2, 0, 0, 1, 1, -1])
    assert agree(truth, labels, np.array([0, 1, 2])).tolist() == [2, 0, 1]


def test_noise_of_dbscan_stays_minus_one_and_clusters_are_numbered_from_zero():
    args = {"centers": [[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], "cluster_std": 3.0}
    tasks = BlobTasks(60, 60, 3, maker_args=args, teacher=DBSCAN(eps=3.0))
    support, query = tasks.sample(seeded(0))
    assert support.y.unique().tolist() == [-1, 0, 1, 2]
    loss = torch.nn.CrossEntropyLoss(ignore_index=-1)(torch.randn(60, 3), support.y)
    assert loss.isfinite()
    assert (query.y >= -1).all()


@pytest.mark.parametrize(
    ("maker", "args"),
    [
        (make_moons, {"noise": 0.05}),
        (make_circles, {"factor": 0.3}),
        (make_classification, {"n_features": 6, "n_informative": 4}),
    ],
)
def test_relatives_of_make_blobs_serve_as_well(maker, args):
    tasks = BlobTasks(50, 40, 2, maker, args, teacher=KMeans(n_clusters=2))
    support, query = tasks.sample(seeded(0))
    assert support.y.unique().tolist() == [0, 1]
    assert query.x.shape == (40, args.get("n_features", 2))


def test_anisotropic_tables_are_linear_maps_of_the_plain_ones():
    plain = BlobTasks(50, 50, maker_args=BLOBS).sample(seeded(3)).support.x.double()
    stretched = BlobTasks(50, 50, maker_args=BLOBS, anisotropic=True).sample(seeded(3))
    target = stretched.support.x.double()
    solution = torch.linalg.lstsq(plain, target).solution
    assert torch.allclose(plain @ solution, target, atol=1e-3)
    assert not torch.allclose(plain, target, atol=1.0)


def test_a_task_with_too_few_clusters_is_drawn_again():
    # eps so that DBSCAN often merges two of the three blobs
    args = {"centers": 3, "n_features": 2, "center_box": (-6.0, 6.0)}
    tasks = BlobTasks(60, 20, 3, maker_args=args, teacher=DBSCAN(eps=1.0), max_tries=100)
    for seed in range(10):
        y = tasks.sample(seeded(seed)).support.y
        assert set(y[y >= 0].tolist()) == {0, 1, 2}
    once = BlobTasks(60, 20, 3, maker_args=args, teacher=DBSCAN(eps=1.0), max_tries=1)
    with pytest.raises(ValueError, match="clusters but way=3"):
        [once.sample(seeded(seed)) for seed in range(10)]


def test_duplicates_of_one_point_end_in_one_line_not_in_a_hang():
    args = {"centers": [[1.0, 1.0]] * 3, "cluster_std": 0.0}
    tasks = BlobTasks(20, 20, 3, maker_args=args, teacher=KMeans(n_clusters=3))
    with pytest.raises(ValueError, match=r"^20 tables of make_blobs \(teacher KMeans\) had 1 clu"):
        tasks.sample(seeded(0))


@pytest.mark.parametrize(("clusters", "true"), [(4, False), (2, False), (3, True)])
def test_a_way_that_does_not_fit_is_named_with_both_numbers(clusters, true):
    args = {"centers": 5 if true else 3}
    tasks = BlobTasks(50, 20, 3, maker_args=args, teacher=KMeans(clusters), true_query_labels=true)
    found = 5 if true else clusters
    with pytest.raises(ValueError, match=f"had {found} clusters but way=3"):
        tasks.sample(seeded(0))


def test_a_generator_without_components_is_refused_by_way():
    with pytest.raises(ValueError, match=r"no teacher.* had 4 clusters but way=3"):
        BlobTasks(50, 20, 3, maker_args={"centers": 4}).sample(seeded(0))


@pytest.mark.parametrize("args", [{"n_samples": 5}, {"random_state": 0}, {"centres": 3}])
def test_arguments_that_the_maker_cannot_take_are_refused_at_once(args):
    with pytest.raises(ValueError, match="make_blobs cannot be called"):
        BlobTasks(maker_args=args)


@pytest.mark.parametrize("args", [{"way": 1}, {"n_support": 2}, {"n_query": 0}, {"max_tries": 0}])
def test_numbers_that_are_too_small_are_refused(args):
    with pytest.raises(ValueError, match="too small"):
        BlobTasks(**args)


def test_a_teacher_that_cannot_cluster_is_refused():
    with pytest.raises(TypeError, match="KNeighborsClassifier has no fit_predict"):
        BlobTasks(teacher=KNeighborsClassifier())


def test_the_teacher_itself_is_never_fitted():
    teacher = KMeans(n_clusters=3)
    BlobTasks(20, 20, teacher=teacher).sample(seeded(0))
    assert teacher.random_state is None
    assert "labels_" not in vars(teacher)
