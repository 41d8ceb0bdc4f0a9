"""The handwritten digits that ship with scikit-learn."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from ._splits import check_split


class Digits(TensorDataset):
    """The 1,797 handwritten digits of scikit-learn, split so that the test classes are new.

    Few-shot learning is judged on classes never seen in training. Therefore train and val hold the
    digits 0 to 4 (every fifth image of a digit is in val, the others in train) and test holds the
    digits 5 to 9. No download: the images come with scikit-learn. x is float32 of shape
    `(N, 1, 8, 8)`, values 0 to 1, ink bright; y is int64 of shape `(N,)` in `[0, 5)`.

    Attributes:
        classes: The five digits as text, in the order of y: y = 0 is "5" in test.

    Args:
        split: "train" (723 images), "val" (178) or "test" (896).

    Raises:
        ValueError: If `split` is none of the three.

    References:
        https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html
    """

    def __init__(self, split: str) -> None:
        from sklearn.datasets import load_digits

        check_split(split)
        self.split = split
        data = load_digits()
        digits = range(5, 10) if split == "test" else range(5)
        self.classes = [str(digit) for digit in digits]
        parts = [_rows_of(data.target, digit, split) for digit in digits]
        rows = np.concatenate(parts)
        x = torch.as_tensor(data.images[rows] / 16, dtype=torch.float32).unsqueeze(1)
        y = torch.repeat_interleave(torch.tensor([len(part) for part in parts]))
        super().__init__(x, y)


def _rows_of(target: NDArray[np.int64], digit: int, split: str) -> NDArray[np.int64]:
    """Rows of one digit that belong to the split."""
    rows = np.flatnonzero(target == digit)
    position = np.arange(len(rows))
    kept = {"train": position % 5 != 4, "val": position % 5 == 4, "test": position >= 0}
    chosen: NDArray[np.int64] = rows[kept[split]]
    return chosen
