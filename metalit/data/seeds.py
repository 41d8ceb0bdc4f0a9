"""The two seeds of an episode, from `(seed, stage, number)`."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STAGES = ("train", "val", "test", "predict")

_BLOCK = 256  # episodes whose seeds are computed together
_WORD = 2**32
_HALF = np.uint32(16)  # bits


def episode_seeds(seed: int, stage: str, index: int) -> tuple[int, int]:
    """Return the seeds for drawing and for transforming episode `index` of a stage.

    They are the state of `np.random.SeedSequence([seed, stage's number, index])`.
    """
    entropy = seed, STAGES.index(stage), index
    if min(entropy) >= 0 and max(entropy) < _WORD - _BLOCK:
        block, place = divmod(index, _BLOCK)
        return _block_of_seeds(*entropy[:2], block * _BLOCK)[place]
    draw, transform = np.random.SeedSequence(entropy).generate_state(2, np.uint64).tolist()
    return draw, transform


@lru_cache(maxsize=64)
def _block_of_seeds(seed: int, stage: int, begin: int) -> list[tuple[int, int]]:
    """Return the seeds of the episodes from `begin` on.

    A SeedSequence takes 17 µs, as long as everything else of a small episode together. So its
    algorithm, which numpy promises never to change (NEP 19), is applied to arrays: the numbers
    are mixed in a pool of four 32-bit words, whose hashes are the seeds.
    """
    pool = np.zeros((4, _BLOCK), np.uint32)
    pool[0], pool[1], pool[2] = seed, stage, np.arange(begin, begin + _BLOCK)
    pool = _hash(pool, _ENTROPY[:5])
    for source in range(4):
        others = [word for word in range(4) if word != source]
        hashed = _hash(pool[source], _ENTROPY[4 + 3 * source : 8 + 3 * source])
        mixed = np.uint32(0xCA01F9DD) * pool[others] - np.uint32(0x4973F715) * hashed
        pool[others] = mixed ^ mixed >> _HALF
    words = _hash(pool, _OUTPUT).astype(np.uint64)
    draw, transform = (words[::2] | words[1::2] << np.uint64(32)).tolist()
    return list(zip(draw, transform, strict=True))


def _hash(words: NDArray[np.uint32], constants: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash words of shape `(R, B)` or `(B,)`, row r with the constants r and r + 1."""
    words = (words ^ constants[:-1]) * constants[1:]
    return words ^ words >> _HALF


def _constants(first: int, factor: int, count: int) -> NDArray[np.uint32]:
    """Return the constants of consecutive hashes, of shape `(count, 1)`."""
    powers = [first * pow(factor, power, _WORD) % _WORD for power in range(count)]
    return np.array(powers, np.uint32)[:, None]


_ENTROPY = _constants(0x43B0D7E5, 0x931E8875, 17)
_OUTPUT = _constants(0x8B51F9DD, 0x58F38DED, 5)
