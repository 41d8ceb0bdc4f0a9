import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalit.tasks.classes import ClassIndex, draw_distinct, smallest, to_float


def test_to_float_scales_uint8_only() -> None:
    assert torch.equal(
        to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0, 0.2, 1])
    )
    assert torch.equal(to_float(torch.tensor([3.0], dtype=torch.float64)), torch.tensor([3.0]))


@given(
    labels=st.lists(st.integers(-1, 5), min_size=1, max_size=40),
    size=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_draw_gives_distinct_members_of_distinct_classes(
    labels: list[int], size: int, seed: int
) -> None:
    y = torch.tensor(labels)
    index = ClassIndex.from_labels(y).at_least(size)
    expected = [c for c in sorted(set(labels)) if c >= 0 and labels.count(c) >= size]
    assert index.names == expected
    if index.names:
        rows = index.draw(len(index), size, [torch.Generator().manual_seed(seed)])[0]
        assert len(rows.unique()) == rows.numel()
        assert (y[rows] == y[rows[:, :1]]).all()
        assert sorted(y[rows[:, 0]].tolist()) == expected


def draw_alone(index: ClassIndex, way: int, size: int, seed: int) -> torch.Tensor:
    """The plain algorithm, for one episode."""
    generator = torch.Generator().manual_seed(seed)
    if way * way > len(index):
        classes = torch.randperm(len(index), generator=generator)[:way]
    else:
        while True:
            classes = torch.randint(len(index), (way,), generator=generator)
            if len(classes.unique()) == way:
                break
    members = [index.members[index.starts[c] :][: index.counts[c]] for c in classes]
    keys = torch.rand(way, max(map(len, members)), generator=generator)
    for row, own in zip(keys, members, strict=True):
        row[len(own) :] = 2.0
    places = keys.topk(size, largest=False).indices
    return torch.stack([own[place] for own, place in zip(members, places, strict=True)])


@pytest.mark.parametrize(
    ("counts", "way", "size"),
    [([20] * 30, 5, 16), ([100] * 5, 5, 40), ([4, 9, 30, 6, 12], 3, 4), ([2] * 40, 2, 2)],
)
def test_a_batch_of_draws_is_bit_for_bit_the_plain_algorithm(
    counts: list[int], way: int, size: int
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    index = ClassIndex.from_labels(shuffled)
    seeds = range(100)
    drawn = index.draw(way, size, [torch.Generator().manual_seed(seed) for seed in seeds])
    assert torch.equal(drawn, torch.stack([draw_alone(index, way, size, seed) for seed in seeds]))


@pytest.mark.parametrize("values", [3, 1000, 2**24])
@pytest.mark.parametrize("size", [1, 40, 99, 100])
def test_smallest_is_topk_with_and_without_ties(values: int, size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(values, (200, 5, 100), generator=generator) / values
    expected = keys.topk(size, largest=False).indices
    assert torch.equal(smallest(keys, size), expected)
    for row in (keys[:1], keys[:50]):
        assert torch.equal(smallest(row, size), row.topk(size, largest=False).indices)


def test_draw_takes_every_member_of_a_class_equally_often_in_every_place() -> None:
    index = ClassIndex.from_labels(torch.tensor([0, 1, 1, 1, 0, 1, 2, 2]))
    generator = torch.Generator().manual_seed(0)
    rows = index.draw(2, 2, [generator] * 3000).flatten(0, 1)
    of_one = rows[torch.isin(rows[:, 0], torch.tensor([1, 2, 3, 5]))]
    for place in (0, 1):
        counts = torch.bincount(of_one[:, place], minlength=8)[[1, 2, 3, 5]]
        assert (abs(counts / len(of_one) - 0.25) < 0.04).all()


@pytest.mark.parametrize(("size", "count"), [(5, 3), (5, 5), (100, 4)])
def test_draw_distinct_is_uniform_and_without_repeats(size: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_distinct(size, count, [generator] * 4000)
    assert all(len(row.unique()) == count for row in drawn[:100])
    for place in range(count):
        share = torch.bincount(drawn[:, place], minlength=size) / 4000
        assert (abs(share - 1 / size) < 4 * (1 / size / 4000) ** 0.5).all()
