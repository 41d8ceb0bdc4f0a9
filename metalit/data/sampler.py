"""Which episodes each process sees: a counter instead of a shuffled list."""

from collections.abc import Callable, Iterator

from torch.utils.data import Sampler


class MetaBatchSampler(Sampler[list[int]]):
    """Yields the episode numbers of one meta-batch after the other, for one rank of several.

    Meta-batch k holds the episodes `k·B … k·B + B - 1`, of which each rank takes its slice. The
    first k comes from `start`, asked anew at every `iter()`: on resume it is the number of
    meta-batches that the run has already trained on, which is all that exact resume needs.

    Args:
        episodes: Episodes between two calls of `iter()`, over all ranks.
        meta_batch_size: Episodes of a meta-batch, over all ranks.
        rank: This process, in `[0, world_size)`.
        world_size: Number of processes.
        start: Returns the first meta-batch.
        limit: Whether `episodes` is the end, with a shorter last meta-batch (evaluation), rather
            than the length of an epoch on an endless line of episodes (training).

    Raises:
        ValueError: If a rank would get another number of episodes than the others.
    """

    def __init__(
        self,
        episodes: int,
        meta_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        start: Callable[[], int] = lambda: 0,
        limit: bool = False,
    ) -> None:
        for name, value in (("meta_batch_size", meta_batch_size), ("episodes", episodes)):
            if value < 1 or value % world_size:
                raise ValueError(
                    f"{name}={value} cannot be split evenly over {world_size} process(es): "
                    f"choose a positive multiple of {world_size}."
                )
        if not limit and episodes % meta_batch_size:
            raise ValueError(
                f"{episodes} episodes an epoch are not a multiple of "
                f"meta_batch_size={meta_batch_size}: change one of them."
            )
        self.episodes = episodes
        self.meta_batch_size = meta_batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.limit = limit

    def __len__(self) -> int:
        """Return the number of meta-batches."""
        return -(-self.episodes // self.meta_batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this rank's episode numbers, one list a meta-batch."""
        first = self.start()
        for batch in range(first, first + len(self)):
            begin = batch * self.meta_batch_size
            end = begin + self.meta_batch_size
            if self.limit:
                end = min(end, self.episodes)
            share = (end - begin) // self.world_size
            yield list(range(begin + self.rank * share, begin + (self.rank + 1) * share))
