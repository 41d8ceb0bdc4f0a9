"""What every TaskDistribution must do: one suite for all classes.

A new class is found by itself and needs one line in the table of examples.
"""

import copy
import inspect
import json
import pickle
from collections.abc import Callable

import pytest
import torch
from sklearn.cluster import KMeans
from torch.utils.data import DataLoader

from metalit import Episode, EpisodeDataModule, augmentations
from metalit.data import EpisodeDataset
from metalit.episodes import stack as stack_episodes
from metalit.hyperparameters import build_arguments, describe
from metalit.tables.makers import blobs
from metalit.tasks import (
    AnomalyTasks,
    AugmentationTasks,
    BlobTasks,
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

TASKS: dict[str, Callable[[], TaskDistribution]] = {
    "AnomalyTasks": lambda: AnomalyTasks((30, 30), (3, 3), 20, clean=1.0),
    "AugmentationTasks": lambda: AugmentationTasks(3, 2, 2, augmentations.Noise(0.1)),
    "BlobTasks": lambda: BlobTasks(12, 9, teacher=KMeans(3, n_init=1)),
    "ClusterTasks": lambda: ClusterTasks(3, 1, 2, clusters=5, partitions=2),
    "JointTasks": lambda: JointTasks(LabelTasks(3, 1, 2)),
    "Curriculum": lambda: Curriculum(SinusoidTasks(3, 4), SinusoidTasks(3, 4), episodes=4),
    "LabelTasks": lambda: LabelTasks(3, 1, 2),
    "MixedTasks": lambda: MixedTasks([SinusoidTasks(3, 4), SinusoidTasks(3, 4)]),
    "OutlierTasks": lambda: OutlierTasks(n_support=10, n_query=10, features=3),
    "PrincipalTasks": lambda: PrincipalTasks(SinusoidTasks(3, 4), 2),
    "SinusoidTasks": lambda: SinusoidTasks(shot=3, query_shot=4),
    "StreamTasks": lambda: StreamTasks(rows=10, clusters=2),
    "TableCuts": lambda: TableCuts(n_support=(16, 16), clusters=(2, 2), columns=(3, 3)),
    "TableTasks": lambda: TableTasks((60, 60), clusters=(2, 2), families=[blobs], planar=1.0),
}
FROM_DATA = ("AugmentationTasks", "ClusterTasks", "JointTasks", "LabelTasks")
JOINING = ("JointTasks",)  # whose transform makes one set of support and query
OWN_TESTS = {"ClassOutTasks"}  # shapes differ: tests/tasks/test_anomalies.py
LABELLED = (*FROM_DATA, "TableCuts")

every_tasks = pytest.mark.parametrize("name", TASKS)


def test_every_distribution_has_an_example_of_its_name(concrete_classes):
    missing = concrete_classes(TaskDistribution) - set(TASKS) - OWN_TESTS
    assert not missing, f"add a line for {sorted(missing)} to the table of examples in {__file__}."
    assert all(type(make()).__name__ == name for name, make in TASKS.items())


def make_tasks(name: str) -> TaskDistribution:
    """A fitted distribution; sample n of the data is the constant image n / 60."""
    x = (torch.arange(60.0) / 60)[:, None, None, None].expand(60, 1, 4, 4).contiguous()
    return TASKS[name]().fit(x, torch.arange(60) % 6 if name in LABELLED else None)


def draw(tasks: TaskDistribution, seed: int = 0) -> Episode:
    return tasks.sample(torch.Generator().manual_seed(seed))


def equal(a: Episode, b: Episode) -> bool:
    pairs = zip((*a.support, *a.query), (*b.support, *b.query), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@every_tasks
def test_an_episode_is_a_pure_function_of_its_generator(name: str) -> None:
    tasks, random_state = make_tasks(name), torch.get_rng_state()
    first = draw(tasks)
    assert all(not equal(draw(tasks, seed), first) for seed in range(1, 6))
    assert equal(draw(tasks), first)
    assert equal(draw(make_tasks(name)), first)
    assert torch.equal(torch.get_rng_state(), random_state)


@every_tasks
def test_the_copies_of_a_distribution_draw_the_same_episodes(name: str) -> None:
    tasks = make_tasks(name)
    for other in (copy.deepcopy(tasks), pickle.loads(pickle.dumps(tasks))):
        assert equal(draw(other, 3), draw(tasks, 3))


@every_tasks
def test_episodes_have_fixed_shapes_and_the_right_types(name: str) -> None:
    tasks = make_tasks(name)
    episodes = [draw(tasks, seed) for seed in range(10)]
    for support, query in episodes:
        assert (support.x.dtype, query.x.dtype) == (torch.float32, torch.float32)
        assert support.x.shape[1:] == query.x.shape[1:]
        assert support.x.isfinite().all()
        assert query.x.isfinite().all()
        for part in (support, query):
            assert len(part.y) == len(part.x) > 0
            if part.y.is_floating_point():  # targets of a regression
                assert part.y.ndim == 2
            else:
                assert (part.y.dtype, part.y.ndim) == (torch.int64, 1)
    shapes = {tuple(t.shape for part in episode for t in part) for episode in episodes}
    assert len(shapes) == 1


@every_tasks
def test_labels_are_in_range(name: str) -> None:
    tasks = make_tasks(name)
    way = 3 if name in FROM_DATA else vars(tasks).get("way", 2)  # detection: normal or not
    for support, query in (draw(tasks, seed) for seed in range(10)):
        if support.y.is_floating_point():
            continue
        for part in (support, query):
            assert part.y.min() >= -1 or set(part.y.tolist()) == {-2}  # two clusters, no label
            assert part.y.max() < way
        if name in FROM_DATA:  # every class in both sets
            assert set(support.y.tolist()) == set(query.y.tolist()) == set(range(way))


@pytest.mark.parametrize("name", [name for name in FROM_DATA if name != "AugmentationTasks"])
def test_support_and_query_share_no_sample(name: str) -> None:
    tasks = make_tasks(name)
    for support, query in (draw(tasks, seed) for seed in range(30)):
        rows = torch.cat([support.x, query.x])[:, 0, 0, 0]
        assert len(rows.unique()) == len(rows)


def stack(tasks: TaskDistribution, seeds: list[int]) -> Episode:
    dataset = EpisodeDataset(tasks, 0, "train", 8)
    return dataset.meta_batch(seeds).episodes


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@every_tasks
@pytest.mark.parametrize("seeds", [[4], [4, 1, 7, 1]])
def test_a_batch_holds_bit_for_bit_the_episodes_that_are_drawn_alone(
    name: str, seeds: list[int]
) -> None:
    tasks, random_state = make_tasks(name), torch.get_rng_state()
    together = tasks.sample_batch(generators(seeds))
    assert equal(together, stack_episodes([draw(tasks, seed) for seed in seeds]))
    assert all(t.is_contiguous() for part in together for t in part)
    assert torch.equal(torch.get_rng_state(), random_state)


@every_tasks
def test_a_transform_gives_an_episode_the_same_result_alone_as_in_a_batch(name: str) -> None:
    tasks, seeds = make_tasks(name), [4, 1, 7]
    before = stack(tasks, seeds)
    together = tasks.transform(stack(tasks, seeds), generators(seeds))
    for place, seed in enumerate(seeds):
        alone = tasks.transform(stack(tasks, [seed]), generators([seed]))
        for part, whole, old in zip(alone, together, before, strict=True):
            assert torch.equal(part.x[0], whole.x[place])
            assert torch.equal(part.y[0], whole.y[place])
            assert name in JOINING or whole.x.shape == old.x.shape
            assert whole.x.dtype == torch.float32


@every_tasks
def test_a_transform_does_not_change_the_episodes_that_it_is_given(name: str) -> None:
    tasks = make_tasks(name)
    given = stack(tasks, [0, 1])
    tasks.transform(given, generators([0, 1]))
    assert equal(given, stack(tasks, [0, 1]))


@every_tasks
def test_a_distribution_draws_the_same_in_the_workers_of_a_loader(name: str) -> None:
    dataset = EpisodeDataset(make_tasks(name), seed=0, stage="train", episodes=4)
    loaders = (
        DataLoader(dataset, 2, num_workers=workers, collate_fn=lambda batch: batch)
        for workers in (0, 1)
    )
    for alone, worked in zip(*loaders, strict=True):
        assert equal(alone.episodes, worked.episodes)
        assert alone.seeds == worked.seeds


@every_tasks
def test_the_arguments_of_a_distribution_are_kept_under_their_names(name: str) -> None:
    tasks = TASKS[name]()
    assert set(inspect.signature(type(tasks)).parameters) <= set(vars(tasks))


@every_tasks
def test_a_distribution_can_be_built_again_from_its_description(name: str) -> None:
    description = json.loads(json.dumps(describe(TASKS[name]())))
    built = build_arguments(EpisodeDataModule, {"tasks": description})["tasks"]
    assert type(built).__name__ == name
    assert describe(built) == description
