import pytest
import torch

from metalit.episodes import Episode
from metalit.tasks.labels import LabelTasks


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(classes: int = 6, members: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of (own number, class), in mixed order."""
    order = torch.randperm(classes * members, generator=seeded(1))
    y = torch.arange(classes).repeat(members)[order]
    return torch.stack([torch.arange(len(y)), y], 1).float(), y


def members(episode: Episode) -> tuple[list[float], list[float]]:
    return episode.support.x[:, 0].tolist(), episode.query.x[:, 0].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_an_episode_holds_way_classes_with_distinct_members_in_class_major_order(seed: int) -> None:
    x, y = data()
    episode = LabelTasks(4, 2, 3).fit(x, y).sample(seeded(seed))
    assert torch.equal(episode.support.y, torch.arange(4).repeat_interleave(2))
    assert torch.equal(episode.query.y, torch.arange(4).repeat_interleave(3))
    true_classes = episode.support.x[::2, 1]
    assert len(true_classes.unique()) == 4
    assert torch.equal(episode.support.x[:, 1], true_classes[episode.support.y])
    assert torch.equal(episode.query.x[:, 1], true_classes[episode.query.y])
    support, query = members(episode)
    assert len(set(support + query)) == 4 * (2 + 3)


def test_labels_follow_the_order_of_drawing_not_the_names_of_the_classes() -> None:
    tasks = LabelTasks(6, 1, 1).fit(*data())
    orders = {tuple(tasks.sample(seeded(seed)).support.x[:, 1].tolist()) for seed in range(20)}
    assert len(orders) > 15


def test_an_episode_is_a_pure_function_of_the_generator() -> None:
    tasks = LabelTasks(3, 1, 2).fit(*data())
    first = tasks.sample(seeded(7))
    tasks.sample(seeded(8))
    assert members(tasks.sample(seeded(7))) == members(first)
    assert members(tasks.sample(seeded(8))) != members(first)


def test_every_sample_is_drawn_sooner_or_later() -> None:
    tasks = LabelTasks(3, 1, 1).fit(*data())
    seen = set()
    for seed in range(300):
        seen.update(*members(tasks.sample(seeded(seed))))
    assert seen == set(range(48))


def test_samples_without_a_label_are_left_out() -> None:
    x, y = data()
    y = torch.where(y == 5, -1, y)
    tasks = LabelTasks(5, 1, 7).fit(x, y)
    episode = tasks.sample(seeded(0))
    assert (episode.query.x[:, 1] != 5).all()


def test_uint8_images_become_floats_between_zero_and_one() -> None:
    x = torch.arange(0, 240, 10, dtype=torch.uint8).view(24, 1, 1, 1)
    episode = LabelTasks(2, 1, 1).fit(x, torch.arange(24) % 2).sample(seeded(0))
    assert episode.support.x.dtype == torch.float32
    back = (episode.support.x * 255).round()
    torch.testing.assert_close(episode.support.x, back / 255)
    assert (back % 10 == 0).all()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "LabelTasks got no labels"),
        (torch.full((20,), -1), "LabelTasks got no labels"),
        (torch.arange(20) % 4, "the data have 4 classes but way = 5: lower way"),
        (
            torch.arange(20) % 5,
            r"class 0 has 4 samples but shot \+ query_shot = 5: lower query_shot or drop the class",
        ),
        (torch.arange(19), r"y has shape \(19,\) but x has 20 samples"),
    ],
)
def test_data_without_an_episode_are_refused_in_one_line(y, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        LabelTasks(5, 1, 4).fit(torch.rand(20, 2, generator=seeded(0)), y)
    assert "\n" not in str(error.value)


def test_the_class_that_is_too_small_is_named() -> None:
    x, y = data(6, 8)
    keep = torch.ones(48, dtype=torch.bool)
    keep[(y == 3).nonzero()[:2, 0]] = False
    with pytest.raises(ValueError, match="class 3 has 6 samples"):
        LabelTasks(2, 1, 6).fit(x[keep], y[keep])


def test_values_that_are_not_finite_are_refused() -> None:
    x, y = data()
    x[3] = float("nan")
    with pytest.raises(ValueError, match="1 of 48 samples hold NaN or infinite"):
        LabelTasks(2, 1, 1).fit(x, y)


def test_sampling_before_fit_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match=r"LabelTasks has no data: call fit\(x, y\)"):
        LabelTasks(2, 1, 1).sample(seeded(0))


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="shot=0"):
        LabelTasks(5, 0, 1)
