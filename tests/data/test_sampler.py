from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalit.data import MetaBatchSampler


@settings(max_examples=50, deadline=None)
@given(
    world_size=st.integers(1, 4),
    share=st.integers(1, 3),
    batches=st.integers(1, 4),
    short=st.integers(0, 2),
    first=st.integers(0, 7),
    limit=st.booleans(),
)
def test_the_ranks_partition_every_meta_batch_in_order(
    world_size: int, share: int, batches: int, short: int, first: int, limit: bool
) -> None:
    meta_batch_size = share * world_size
    episodes = batches * meta_batch_size
    if limit:  # the last meta-batch of an evaluation may be shorter
        first, episodes = 0, max(world_size, episodes - short * world_size)
    ranks = [
        list(MetaBatchSampler(episodes, meta_batch_size, rank, world_size, lambda: first, limit))
        for rank in range(world_size)
    ]
    begin = first * meta_batch_size
    for parts in zip(*ranks, strict=True):
        assert len({len(part) for part in parts}) == 1
        numbers = list(chain(*parts))
        assert numbers == list(range(begin, begin + len(numbers)))
        begin += len(numbers)
    assert begin == first * meta_batch_size + episodes
    sampler = MetaBatchSampler(episodes, meta_batch_size, 0, world_size, limit=limit)
    assert len(sampler) == len(ranks[0])


def test_the_start_is_asked_for_anew_at_every_iteration() -> None:
    done = 0
    sampler = MetaBatchSampler(4, 2, start=lambda: done)
    assert list(sampler) == [[0, 1], [2, 3]]
    done = 2
    assert list(sampler) == [[4, 5], [6, 7]]
    done = 3  # in the middle of an epoch, where a run was interrupted
    assert next(iter(sampler)) == [6, 7]


def test_an_iterator_does_not_move_when_the_count_of_done_batches_does() -> None:
    done = 0
    batches = iter(MetaBatchSampler(6, 2, start=lambda: done))
    assert next(batches) == [0, 1]
    done = 1  # a worker fetches ahead while the outer loop counts
    assert list(batches) == [[2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, 3, 0, 2), "meta_batch_size=3 cannot be split evenly over 2 process"),
        ((9, 4, 0, 2), "episodes=9 cannot be split evenly over 2 process"),
        ((0, 4), "episodes=0 cannot be split evenly over 1 process.*a positive multiple of 1"),
        ((4, 0), "meta_batch_size=0 cannot be split"),
        ((10, 4), "10 episodes an epoch are not a multiple of meta_batch_size=4"),
    ],
)
def test_what_cannot_be_split_evenly_is_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaBatchSampler(*arguments)


def test_an_evaluation_need_not_be_a_multiple_of_the_meta_batch() -> None:
    assert list(MetaBatchSampler(5, 4, limit=True)) == [[0, 1, 2, 3], [4]]
