import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from metalit import Episode, Samples
from metalit.data import EpisodeDataset, MetaBatch, episode_seeds
from metalit.tasks import Curriculum, LabelTasks, SinusoidTasks, TaskDistribution


def equal(a: Episode, b: Episode) -> bool:
    pairs = zip((*a.support, *a.query), (*b.support, *b.query), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def label_tasks() -> LabelTasks:
    generator = torch.Generator().manual_seed(0)
    return LabelTasks(3, 1, 2).fit(torch.rand(60, 4, generator=generator), torch.arange(60) % 6)


@settings(max_examples=20, deadline=None)
@given(index=st.integers(0, 10_000), before=st.lists(st.integers(0, 99), max_size=4))
def test_an_episode_does_not_depend_on_what_was_drawn_before(index: int, before: list[int]) -> None:
    dataset = EpisodeDataset(label_tasks(), seed=1, stage="train", episodes=8)
    for number in before:
        dataset[number]
    fresh = EpisodeDataset(label_tasks(), seed=1, stage="train", episodes=8)
    assert equal(dataset[index], fresh[index])
    assert dataset.meta_batch([index, 3]).seeds == fresh.meta_batch([index, 3]).seeds


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 50), st.sampled_from(["train", "val", "test"]), st.integers(0, 1000)
        ),
        unique=True,
        min_size=2,
        max_size=30,
    )
)
def test_every_seed_stage_and_number_has_seeds_of_its_own(keys: list[tuple[int, str, int]]) -> None:
    seeds = [seed for key in keys for seed in episode_seeds(*key)]
    assert len(set(seeds)) == 2 * len(keys)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**70) | st.sampled_from([0, 2**32 - 1, 2**32]),
    stage=st.sampled_from(["train", "val", "test", "predict"]),
    index=st.integers(0, 2**34) | st.sampled_from([0, 255, 256, 2**32 - 1, 2**32]),
)
def test_the_seeds_are_those_of_a_seed_sequence(seed: int, stage: str, index: int) -> None:
    stages = ["train", "val", "test", "predict"]
    sequence = np.random.SeedSequence([seed, stages.index(stage), index])
    assert episode_seeds(seed, stage, index) == tuple(sequence.generate_state(2, np.uint64))


def test_other_seeds_and_stages_give_other_episodes() -> None:
    tasks = SinusoidTasks()
    episodes = [
        EpisodeDataset(tasks, seed, stage, 8)[number]
        for seed in (0, 1)
        for stage in ("train", "val", "test")
        for number in (0, 1)
    ]
    for i, one in enumerate(episodes):
        assert not any(equal(one, other) for other in episodes[:i])


def test_episodes_are_the_same_without_and_with_two_workers() -> None:
    dataset = EpisodeDataset(label_tasks(), seed=0, stage="val", episodes=6)
    loaders = [
        DataLoader(dataset, batch_size=2, collate_fn=lambda batch: batch, num_workers=workers)
        for workers in (0, 2)
    ]
    for alone, worked in zip(*loaders, strict=True):
        assert equal(alone.episodes, worked.episodes)
        assert (alone.seeds, alone.stage) == (worked.seeds, worked.stage)


def test_a_meta_batch_holds_its_episodes_in_order() -> None:
    dataset = EpisodeDataset(label_tasks(), seed=0, stage="test", episodes=6)
    batch = dataset.meta_batch([3, 1])
    assert isinstance(batch, MetaBatch)
    assert batch.stage == "test"
    for place, number in enumerate((3, 1)):
        part = Episode(*(Samples(s.x[place], s.y[place]) for s in batch.episodes))
        assert equal(part, dataset[number])
        draw_seed, transform_seed = episode_seeds(0, "test", number)
        assert equal(part, label_tasks().sample(torch.Generator().manual_seed(draw_seed)))
        assert batch.seeds[place] == transform_seed


def test_a_curriculum_changes_within_a_meta_batch() -> None:
    first, last = (SinusoidTasks(3, 4, amplitude=(a, a)) for a in (1.0, 2.0))
    dataset = EpisodeDataset(Curriculum(first, last, episodes=3), 0, "train", 8)
    episodes = dataset.meta_batch(range(6)).episodes
    for number in range(6):
        alone = dataset[number]
        assert equal(Episode(*(Samples(s.x[number], s.y[number]) for s in episodes)), alone)
    assert episodes.query.y[0].abs().max() <= 1
    assert episodes.query.y[3:].abs().amax() > 1


class GrowingTasks(TaskDistribution):
    """Tasks of 1 to 9 rows."""

    def sample(self, generator: torch.Generator) -> Episode:
        rows = int(torch.randint(1, 10, (), generator=generator))
        samples = Samples(torch.zeros(rows, 2), torch.zeros(rows, dtype=torch.int64))
        return Episode(samples, samples)


def test_episodes_of_mixed_shapes_are_refused_in_one_line() -> None:
    dataset = EpisodeDataset(GrowingTasks(), seed=0, stage="train", episodes=20)
    with pytest.raises(ValueError, match=r"different shapes.*set meta_batch_size=1") as caught:
        dataset.meta_batch(range(20))
    assert "\n" not in str(caught.value)
    assert dataset.meta_batch([0]).episodes.support.x.shape[0] == 1


def test_the_length_is_the_number_of_episodes() -> None:
    assert len(EpisodeDataset(SinusoidTasks(), 0, "val", 7)) == 7
