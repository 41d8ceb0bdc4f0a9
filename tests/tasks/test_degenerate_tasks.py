"""Data and settings of which no sensible task can be made: refused in one line, or drawn again."""

import math

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN, HDBSCAN, KMeans
from torch import nn

from metalit.episodes import Samples, unlabelled
from metalit.learners import EmbeddedKMeans, Prototypes, SklearnClusterer
from metalit.scikit import fit_clusterer
from metalit.tasks import (
    BlobTasks,
    ClassOutTasks,
    Curriculum,
    LabelTasks,
    MixedTasks,
    OutlierTasks,
    SinusoidTasks,
    StreamTasks,
    TableCuts,
    TaskDistribution,
)
from metalit.tasks import classes as classes_module

NAN, INF = float("nan"), float("inf")


def same(n_samples, random_state, value=1.0):
    return np.full((n_samples, 2), value), np.arange(n_samples) % 3


def short(n_samples, random_state):
    return np.eye(2), np.arange(2)


def texts(n_samples, random_state):
    return np.array([["1", "2"]] * n_samples), np.arange(n_samples) % 3


class Impossible(TaskDistribution):
    def sample(self, generator):
        raise ValueError("nothing can be drawn.")


def draw(tasks, seed=0):
    return tasks.sample(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("maker", "maker_args", "said"),
    [
        (same, {"value": NAN}, "same makes rows with NaN or infinite values"),
        (same, {"value": INF}, "same makes rows with NaN or infinite values"),
        (same, {"value": 1e39}, "same makes rows with NaN or infinite values"),
        (short, None, r"short makes rows of shape \(2, 2\), .* but numbers of shape \(40, D\)"),
        (texts, None, "texts makes rows of shape .* dtype <U1, .* but numbers"),
    ],
)
def test_a_maker_that_does_not_keep_its_word_is_named(maker, maker_args, said):
    with pytest.raises(ValueError, match=said):
        draw(BlobTasks(20, 20, maker=maker, maker_args=maker_args))


@pytest.mark.parametrize("teacher", [DBSCAN(1e-9), DBSCAN(1e9), HDBSCAN(20, copy=True)])
def test_a_teacher_that_finds_one_cluster_or_only_noise_ends_after_its_budget(teacher):
    with pytest.raises(ValueError, match=r"4 tables of make_blobs .* had [01] clusters but way=3"):
        draw(BlobTasks(20, 20, teacher=teacher, max_tries=4))


@pytest.mark.parametrize("weights", [[1, NAN], [1, INF], [1, 1e-60], [1e38] * 20, [1, 0]])
def test_weights_of_which_none_can_be_drawn_are_refused(weights):
    with pytest.raises(ValueError, match="with a positive weight for each"):
        MixedTasks([SinusoidTasks()] * len(weights), weights)


def test_the_impossible_part_of_a_mixture_is_named():
    mixture = MixedTasks([SinusoidTasks(), Impossible()], weights=[1, 1e6])
    with pytest.raises(ValueError, match=r"tasks\[1\], Impossible: nothing can be drawn"):
        draw(mixture)
    with pytest.raises(ValueError, match=r"tasks\[1\], Impossible: nothing"):
        draw(Curriculum(SinusoidTasks(), Impossible(), episodes=1000).at(999))
    with pytest.raises(ValueError, match=r"tasks\[1\], LabelTasks: the data have 1 classes"):
        MixedTasks([SinusoidTasks(), LabelTasks(2, 1, 1)]).fit(
            torch.zeros(9, 2), torch.zeros(9).long()
        )


@pytest.mark.parametrize("bounds", [(NAN, 1.0), (0.0, NAN), (0.0, INF), (-INF, 0.0)])
def test_waves_without_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="two finite numbers are needed"):
        SinusoidTasks(domain=bounds)


@pytest.mark.parametrize("share", [NAN, INF, -1.0])
def test_shares_that_are_none_are_refused(share):
    with pytest.raises(ValueError, match="contamination"):
        OutlierTasks(contamination=share)
    with pytest.raises(ValueError, match="contamination"):
        StreamTasks(contamination=share)


@pytest.mark.parametrize("tasks", [ClassOutTasks(), TableCuts()])
@pytest.mark.parametrize("value", [NAN, INF])
def test_real_tables_with_a_hole_are_refused(tasks, value):
    x = torch.randn(120, 3)
    x[7, 1] = value
    with pytest.raises(ValueError, match="1 of 120 samples hold NaN or infinite values"):
        tasks.fit(x, torch.arange(120) % 2)


def test_tables_without_columns_that_vary_cannot_be_cut():
    x = torch.ones(120, 3)
    with pytest.raises(ValueError, match="got 0 columns that are not constant and 2 classes"):
        TableCuts().fit(x, torch.arange(120) % 2)


def test_cuts_of_equal_rows_are_drawn_again_under_a_budget():
    x = torch.ones(4000, 2)
    x[0], x[1] = 0.0, 2.0  # two rows that differ, which a small cut hardly ever has
    tasks = TableCuts(n_support=(2, 2)).fit(x, torch.arange(4000) % 2)
    with pytest.raises(ValueError, match="20 cuts of the data had one class, or rows that were"):
        draw(tasks)


def test_classes_out_have_an_anomaly_in_every_query():
    y = torch.zeros(120, dtype=torch.int64)
    y[5] = 1
    tasks = ClassOutTasks(clean=0.0, itself=1.0).fit(torch.randn(120, 3), y)
    assert all(int(draw(tasks, seed).query.y.sum()) == 1 for seed in range(10))
    with pytest.raises(ValueError, match="got rows=0 and n_query=200"):
        ClassOutTasks(rows=0)


def test_sparse_draws_are_bounded(monkeypatch):
    monkeypatch.setattr(
        classes_module.torch, "randint", lambda size, shape, generator: torch.zeros(shape).long()
    )
    (drawn,) = classes_module.draw_distinct(100, 3, [torch.Generator().manual_seed(0)])
    assert len(set(drawn.tolist())) == 3


@pytest.mark.parametrize("clusterer", [HDBSCAN(), DBSCAN(), KMeans(2)])
@pytest.mark.parametrize("value", [NAN, INF])
def test_no_clusterer_takes_a_hole_for_noise(clusterer, value):
    table = np.random.default_rng(0).normal(size=(30, 2))
    table[3, 1] = value
    with pytest.raises(ValueError, match=r"1 of 30 rows for .* hold NaN or infinite values"):
        fit_clusterer(clusterer, table, torch.Generator())


def test_a_clusterer_that_refuses_is_named():
    with pytest.raises(ValueError, match="HDBSCAN cannot cluster 2 rows: min_samples"):
        SklearnClusterer(HDBSCAN(copy=True))(unlabelled(torch.eye(2)), torch.eye(2))


@pytest.mark.parametrize(
    "learner", [Prototypes(nn.Identity()), EmbeddedKMeans(nn.Identity(), 2, normalized=False)]
)
@pytest.mark.parametrize("value", [NAN, INF, 1e30])
def test_embeddings_without_distances_are_refused(learner, value):
    x = torch.randn(8, 2)
    x[3, 1] = value
    support = Samples(x, torch.arange(8) % 2)
    with pytest.raises(ValueError, match="Identity embeds 1 of 8 samples as NaN, infinite or too"):
        learner.check(support)


def test_rows_that_became_nan_after_the_check_are_refused_when_they_are_clustered():
    learner = EmbeddedKMeans(nn.Identity(), 2).eval()
    with pytest.raises(ValueError, match="rows to be clustered are NaN, infinite or too far"):
        learner(unlabelled(torch.full((8, 2), math.nan)), torch.eye(2))
