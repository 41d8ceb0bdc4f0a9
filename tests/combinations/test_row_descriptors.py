"""What weights may know of a row: the side table and what a transformer makes of the rest."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from metalit.combinations.row_descriptors import RowDescriptors, split_columns

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double() * 7 + 3


@pytest.mark.parametrize("side", [[3, 0], [-1, -4], [-1, 0], np.array([3, 0])])
def test_side_columns_are_parted_from_the_others(side):
    visible, table = split_columns(X, side)
    assert torch.equal(visible, X[:, [1, 2]])
    assert torch.equal(table, X[:, list(side)])


def test_an_array_with_the_first_column_is_a_column():
    assert split_columns(X, np.array([0]))[0].shape == (50, 3)


def test_without_side_columns_inputs_stay_as_they_are():
    images = torch.zeros(5, 1, 4, 4)
    visible, table = split_columns(images, ())
    assert visible is images
    assert table.shape == (5, 0)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ([4], "side_columns has 4 but x has 4 columns: give numbers from 0 to 3"),
        (["age"], "side_columns has 'age' but x has 4 columns"),
        ([0, 1, 2, 3], "are all 4 columns of x but base learners need one or more"),
    ],
)
def test_wrong_columns_are_refused_in_one_line(side, message):
    with pytest.raises(ValueError, match=message):
        split_columns(X, side)


@pytest.mark.parametrize(
    ("transformer", "side", "width"), [(None, [2], 1), (PCA(2), [], 2), (PCA(2), [0], 3)]
)
def test_descriptors_are_a_one_and_standardised_columns(transformer, side, width):
    describe = RowDescriptors(X, transformer, side, seed=0)
    found = describe(X)
    assert found.shape == (50, 1 + width)
    assert torch.equal(found[:, 0], torch.ones(50).double())
    np.testing.assert_allclose(found[:, 1:].mean(dim=0), 0, atol=1e-9)
    np.testing.assert_allclose(found[:, 1:].std(dim=0, correction=0), 1)
    torch.testing.assert_close(describe(X[:3]), found[:3])
    if side:
        expected = (X[:, side[0]] - X[:, side[0]].mean()) / X[:, side[0]].std(correction=0)
        np.testing.assert_allclose(found[:, 1], expected)


def test_the_transformer_does_not_see_the_side_table():
    moved = X.clone()
    moved[:, 0] = 100
    first, second = (RowDescriptors(x, PCA(2), [0], seed=0)(x)[:, 2:] for x in (X, moved))
    torch.testing.assert_close(first, second)


def test_without_anything_to_know_there_is_the_one_alone():
    assert torch.equal(RowDescriptors(X, None, (), seed=0)(X), torch.ones(50, 1).double())
