"""Detection tasks on random and on real tables."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from metalit.tasks import AnomalyTasks, ClassOutTasks
from metalit.tasks.anomalies import KINDS, NormalTable


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def same(episode):
    return episode.support.x.shape == episode.query.x.shape and torch.equal(*[p.x for p in episode])


def iris():
    x, y = load_iris(return_X_y=True)
    return ClassOutTasks().fit(torch.tensor(x), torch.tensor(y))


@pytest.mark.parametrize("make", [AnomalyTasks, iris])
def test_half_of_the_contexts_are_clean_and_of_the_others_most_judge_themselves(make):
    tasks = make()
    episodes = [tasks.sample(seeded(seed)) for seed in range(80)]
    clean = [not e.support.y.any() for e in episodes]
    itself = [same(e) for e in episodes]
    assert 25 <= sum(clean) <= 55
    assert 15 <= sum(itself) <= 45
    assert not any(a and b for a, b in zip(clean, itself, strict=True))
    for support, query in episodes:
        assert 0 < query.y.float().mean() < 0.6
        assert support.y.float().mean() < 0.5
        assert support.x.dtype == query.x.dtype == torch.float32
        assert torch.isfinite(support.x).all()
        assert torch.isfinite(query.x).all()


@pytest.mark.parametrize("make", [AnomalyTasks, iris])
def test_an_episode_is_a_pure_function_of_its_generator(make):
    tasks, again = make(), make()
    for seed in range(6):
        for one, other in zip(tasks.sample(seeded(seed)), again.sample(seeded(seed)), strict=True):
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.y, other.y)


def test_tables_differ_in_rows_and_columns_within_the_bounds():
    tasks = AnomalyTasks(rows=(30, 50), columns=(3, 5), n_query=20)
    shapes = {tuple(tasks.sample(seeded(seed)).support.x.shape) for seed in range(30)}
    assert len(shapes) > 5
    assert {d for _, d in shapes} == {3, 4, 5}
    assert all(30 <= n <= 50 for n, _ in shapes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_anomalies_of_each_kind_can_be_found_when_they_are_easy(kind):
    areas = []
    for seed in range(15):
        table = NormalTable(5, np.random.default_rng(seed))
        normal, anomalies = table.columns(table.mixture.draw(100, table.random)), kind(table, 50, 0)
        assert anomalies.shape == (50, 5)
        index = NearestNeighbors(n_neighbors=5).fit(table.rows)
        distance = index.kneighbors(np.concatenate([normal, anomalies]))[0].mean(1)
        areas.append(roc_auc_score(np.arange(150) >= 100, distance))
    assert np.mean(areas) > 0.6


def test_difficult_tasks_are_more_difficult():
    means = []
    for difficulty in (0.0, 1.0):
        tasks, areas = AnomalyTasks((60, 150), (2, 20), clean=1, difficulty=difficulty), []
        for seed in range(40):
            support, query = tasks.sample(seeded(seed))
            scale = support.x.std(0) + 1e-6
            index = NearestNeighbors(n_neighbors=5).fit(support.x / scale)
            areas.append(roc_auc_score(query.y, index.kneighbors(query.x / scale)[0].mean(1)))
        means.append(np.mean(areas))
    assert means[0] > means[1] + 0.05


def test_real_tasks_keep_classes_and_rows_apart():
    x = torch.arange(300.0)[:, None] * torch.ones(3)
    tasks = ClassOutTasks(clean=1.0).fit(x, torch.arange(300) // 100)
    for seed in range(20):
        support, query = tasks.sample(seeded(seed))
        assert support.x.shape[1] in (2, 3)
        assert len(support.x) + len(query.x) <= 300
        assert torch.unique(torch.cat([support.x, query.x])[:, 0]).numel() > 0
        assert not support.y.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AnomalyTasks(rows=(5, 50)), "got rows="),
        (lambda: AnomalyTasks(columns=(9, 3)), r"columns=\(9, 3\)"),
        (lambda: AnomalyTasks(clean=1.5), "got clean=1.5 but it is a share"),
        (lambda: ClassOutTasks(itself=-1), "got itself=-1 but it is a share"),
        (lambda: ClassOutTasks().sample(seeded(0)), "ClassOutTasks has no data: give"),
        (lambda: ClassOutTasks().fit(torch.ones(60, 2)), "one with 40 and another are needed"),
    ],
)
def test_settings_without_a_task_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
