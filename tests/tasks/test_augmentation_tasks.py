from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from metalit.augmentations import Augmentation, Noise, Shift
from metalit.episodes import Episode, Samples
from metalit.tasks.augmentations import AugmentationTasks


class AddOrder(Augmentation):
    """Adds 100, 101, 102 ... to the images in the order in which they come."""

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        order = 100.0 + torch.arange(x.shape[1])
        return x + order.view(1, -1, *[1] * (x.ndim - 2))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 30) -> Tensor:
    return torch.arange(count).view(-1, 1, 1, 1).expand(-1, 1, 4, 4) / count


def meta_batch(tasks: AugmentationTasks, seeds: Sequence[int]) -> Episode:
    episodes = [tasks.sample(seeded(seed)) for seed in seeds]
    support, query = (
        Samples(*(torch.stack(parts) for parts in zip(*sets, strict=True)))
        for sets in zip(*episodes, strict=True)
    )
    return Episode(support, query)


@pytest.mark.parametrize("shot", [1, 3])
def test_sample_copies_way_different_images(shot: int) -> None:
    episode = AugmentationTasks(5, shot, 2, Shift(1)).fit(images()).sample(seeded(0))
    assert len(episode.support.x.flatten(1).unique(dim=0)) == 5
    assert torch.equal(episode.support.y, torch.arange(5).repeat_interleave(shot))
    assert torch.equal(episode.query.y, torch.arange(5).repeat_interleave(2))
    originals = episode.support.x[::shot]
    assert torch.equal(episode.support.x, originals[episode.support.y])
    assert torch.equal(episode.query.x, originals[episode.query.y])


@pytest.mark.parametrize("shot", [1, 3])
def test_transform_augments_all_but_the_first_support_sample_of_a_class(shot: int) -> None:
    tasks = AugmentationTasks(4, shot, 2, AddOrder()).fit(images())
    before = meta_batch(tasks, [0, 1])
    after = tasks.transform(before, [seeded(0), seeded(1)])
    added = (after.support.x - before.support.x)[..., 0, 0, 0].view(2, 4, shot)
    assert (added[:, :, 0] == 0).all()
    numbers = 100.0 + torch.arange(4 * (shot - 1))
    torch.testing.assert_close(added[:, :, 1:], numbers.view(4, shot - 1).expand(2, -1, -1))
    numbers = 100.0 + torch.arange(4 * (shot - 1), 4 * (shot - 1) + 8)
    query_added = (after.query.x - before.query.x)[..., 0, 0, 0]
    torch.testing.assert_close(query_added, numbers.expand(2, -1))
    assert torch.equal(after.support.y, before.support.y)
    assert torch.equal(after.query.y, before.query.y)


def test_an_episode_is_the_same_in_any_meta_batch() -> None:
    tasks = AugmentationTasks(4, 2, 2, Noise(0.1)).fit(images())
    three = tasks.transform(meta_batch(tasks, [5, 6, 7]), [seeded(s) for s in (5, 6, 7)])
    one = tasks.transform(meta_batch(tasks, [6]), [seeded(6)])
    assert torch.equal(three.support.x[1], one.support.x[0])
    assert torch.equal(three.query.x[1], one.query.x[0])
    assert not torch.equal(three.query.x[0], three.query.x[1])


def test_labels_change_nothing() -> None:
    y = torch.arange(30) % 3
    shuffled = y[torch.randperm(30, generator=seeded(0))]
    first, second, third = (
        AugmentationTasks(5, 1, 1, Shift(1)).fit(images(), labels).sample(seeded(4))
        for labels in (y, shuffled, None)
    )
    assert torch.equal(first.support.x, second.support.x)
    assert torch.equal(first.support.x, third.support.x)


def test_uint8_images_become_floats_between_zero_and_one() -> None:
    x = torch.full((5, 1, 2, 2), 255, dtype=torch.uint8)
    episode = AugmentationTasks(5, 1, 1, Shift(0)).fit(x).sample(seeded(0))
    assert torch.equal(episode.query.x, torch.ones(5, 1, 2, 2))


def test_fewer_images_than_way_are_refused() -> None:
    with pytest.raises(ValueError, match="the data have 3 samples but way = 5"):
        AugmentationTasks(5, 1, 1, Shift(1)).fit(images(3))


def test_sampling_before_fit_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match="AugmentationTasks has no data"):
        AugmentationTasks(2, 1, 1, Shift(1)).sample(seeded(0))
