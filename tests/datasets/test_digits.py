"""Digits: what is in each split."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from metalit.datasets import Digits


@pytest.fixture(scope="module")
def splits():
    return {split: Digits(split) for split in ("train", "val", "test")}


def test_every_digit_image_is_in_exactly_one_split(splits):
    images = np.concatenate([s.tensors[0].numpy().reshape(-1, 64) * 16 for s in splits.values()])
    expected = load_digits().data
    assert sorted(map(tuple, images)) == sorted(map(tuple, expected))


def test_labels_name_the_digits_of_the_images(splits):
    data = load_digits()
    digit_of = {tuple(row): str(digit) for row, digit in zip(data.data, data.target, strict=True)}
    for split in splits.values():
        x, y = split.tensors
        for image, label in zip(x.numpy().reshape(-1, 64) * 16, y.tolist(), strict=True):
            assert digit_of[tuple(image)] == split.classes[label]


def test_test_digits_are_never_seen_in_training(splits):
    assert splits["train"].classes == splits["val"].classes == list("01234")
    assert splits["test"].classes == list("56789")


def test_val_holds_every_fifth_image_of_a_class(splits):
    counts = torch.bincount(splits["train"].tensors[1]) + torch.bincount(splits["val"].tensors[1])
    assert torch.equal(torch.bincount(splits["val"].tensors[1]), counts // 5)
    assert [len(split) for split in splits.values()] == [723, 178, 896]


def test_digits_are_float_images_between_0_and_1(splits):
    x, y = splits["train"].tensors
    assert isinstance(splits["train"], TensorDataset)
    assert x.shape == (723, 1, 8, 8)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert (x.min(), x.max()) == (0, 1)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'training' is unknown: use 'train', 'val' or 'test'"):
        Digits("training")
