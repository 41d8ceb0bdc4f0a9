import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalit.tasks.classes import ClassIndex, draw_distinct, to_float


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
        rows = index.draw(len(index), size, torch.Generator().manual_seed(seed))
        assert len(rows.unique()) == rows.numel()
        assert (y[rows] == y[rows[:, :1]]).all()
        assert sorted(y[rows[:, 0]].tolist()) == expected


def test_draw_takes_every_member_of_a_class_equally_often_in_every_place() -> None:
    index = ClassIndex.from_labels(torch.tensor([0, 1, 1, 1, 0, 1, 2, 2]))
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([index.draw(2, 2, generator) for _ in range(3000)])
    of_one = rows[torch.isin(rows[:, 0], torch.tensor([1, 2, 3, 5]))]
    for place in (0, 1):
        counts = torch.bincount(of_one[:, place], minlength=8)[[1, 2, 3, 5]]
        assert (abs(counts / len(of_one) - 0.25) < 0.04).all()


@pytest.mark.parametrize(("size", "count"), [(5, 3), (5, 5), (100, 4)])
def test_draw_distinct_is_uniform_and_without_repeats(size: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_distinct(size, count, generator) for _ in range(4000)])
    assert all(len(row.unique()) == count for row in drawn[:100])
    for place in range(count):
        share = torch.bincount(drawn[:, place], minlength=size) / 4000
        assert (abs(share - 1 / size) < 4 * (1 / size / 4000) ** 0.5).all()
