"""Descriptors of a task, against SciPy, NumPy and sums by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis, skew

from metalit import Samples
from metalit.descriptors import DESCRIPTORS, describe_task


def task(rows=40, columns=4, seed=0):
    x = np.random.default_rng(seed).gamma(2.0, size=(rows, columns))
    x[:, 1] += x[:, 0]
    x[:, -1] = x[:, -1] > 1.5
    y = np.repeat([0, 1, 2, -1], [20, 10, 5, 5])[:rows]
    return Samples(torch.tensor(x), torch.tensor(y))


def described(support):
    return dict(zip(DESCRIPTORS, describe_task(support).tolist(), strict=True))


def test_descriptors_are_those_of_scipy_and_numpy():
    support = task()
    x, found = support.x.numpy(), described(task())
    correlations = np.corrcoef(x.T)
    between = np.abs(correlations[~np.eye(4, dtype=bool)]).mean()
    expected = {
        "log_rows": math.log10(40) / 2 - 1,
        "log_columns": math.log10(4) / 2,
        "log_rows_per_column": 1 / 2,
        "skewness": np.abs(skew(x)).mean() / 2,
        "kurtosis": kurtosis(x).clip(-3, 30).mean() / 10,
        "correlation": between,
        "first_component": np.linalg.eigvalsh(correlations)[-1] / 4,
        "binary_columns": 1 / 4,
        "log_classes": math.log(3) / 2,
        "class_entropy": -sum(p * math.log(p) for p in (4 / 7, 2 / 7, 1 / 7)) / math.log(3),
        "smallest_class": 3 / 7,
        "labelled": 35 / 40,
    }
    assert found == pytest.approx(expected)


def test_the_order_of_rows_columns_and_classes_and_the_scale_do_not_matter():
    support = task()
    rows, columns = torch.randperm(40), torch.randperm(4)
    names = torch.tensor([2, 0, 1, -1])  # the last for -1
    x = 100 * support.x[rows][:, columns] - 7
    moved = Samples(x, names[support.y][rows])
    torch.testing.assert_close(describe_task(moved), describe_task(support))


@pytest.mark.parametrize("hole", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_numbers_count_as_the_mean_of_their_column(hole):
    support = task()
    x, filled = 1000 + support.x.clone(), 1000 + support.x.clone()
    x[3, 0] = hole
    filled[3, 0] = filled[torch.arange(40) != 3, 0].mean()
    holed, whole = (described(support._replace(x=table)) for table in (x, filled))
    assert holed == pytest.approx(whole)


@pytest.mark.parametrize(
    "x",
    [torch.ones(5, 3), torch.full((4, 2), torch.nan), torch.randn(1, 2), torch.randn(6, 2000)],
    ids=["constant", "nothing known", "one row", "wide"],
)
def test_any_table_has_finite_descriptors_of_order_one(x):
    found = describe_task(Samples(x, torch.full((len(x),), -1)))
    assert found.shape == (len(DESCRIPTORS),)
    assert bool(found.isfinite().all())
    assert found.abs().max() <= 5


def test_targets_have_no_classes():
    support = task()
    found = described(Samples(support.x, torch.randn(40, 1)))
    assert [found[name] for name in DESCRIPTORS[8:]] == [0, 0, 0, 1]


def test_images_are_described_by_their_pixels():
    x = torch.randn(10, 1, 3, 4)
    y = torch.arange(10) % 2
    torch.testing.assert_close(
        describe_task(Samples(x, y)), describe_task(Samples(x.flatten(1), y))
    )
