"""The mean and its interval against numpy, over batches and over processes."""

import numpy as np
import pytest
import torch
from torch import nn

from metalit.metrics import MeanConfidence


def reference(values):
    values = np.asarray(values, dtype=np.float64)
    return values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))


def values(n, low=0.0, width=1.0):
    generator = torch.Generator().manual_seed(0)
    return low + width * torch.rand(n, generator=generator, dtype=torch.float64)


def fed(*batches):
    metric = MeanConfidence()
    for batch in batches:
        metric.update(batch)
    return metric


@pytest.mark.parametrize(("low", "width"), [(0.0, 1.0), (-1e3, 2e3), (1e3, 1e-4)])
def test_mean_and_interval_equal_numpys_over_many_batches(low, width):
    numbers = values(100_000, low, width)
    mean, ci95 = fed(*numbers.split(997)).compute()
    assert mean.dtype == ci95.dtype == torch.float64
    assert mean.item() == pytest.approx(reference(numbers)[0], rel=1e-10)
    assert ci95.item() == pytest.approx(reference(numbers)[1], rel=1e-10)


def test_the_interval_is_that_of_the_few_shot_papers():
    result = fed(torch.tensor([0.0, 1.0, 1.0, 0.0])).compute()
    assert result.mean.item() == 0.5
    assert result.ci95.item() == pytest.approx(1.96 * (1 / 3) ** 0.5 / 2, rel=1e-12)


def test_equal_values_have_no_interval_and_one_value_has_an_unknown_one():
    assert fed(torch.full((7,), 0.1)).compute().ci95 == 0
    mean, ci95 = fed(torch.tensor([0.25])).compute()
    assert mean == 0.25
    assert ci95.isnan()


def test_an_empty_batch_changes_nothing_and_none_at_all_has_no_mean():
    result = fed(torch.zeros(0), values(5), torch.zeros(0)).compute()
    assert result.mean.item() == pytest.approx(reference(values(5))[0], rel=1e-12)
    assert fed(torch.zeros(0)).compute().mean.isnan()


def test_nan_is_not_swallowed():
    result = fed(torch.tensor([0.5, torch.nan]), torch.tensor([1.0])).compute()
    assert result.mean.isnan()
    assert result.ci95.isnan()


def test_processes_of_unequal_size_reduce_to_the_mean_over_all_episodes():
    numbers = values(1000, 1e3, 1e-2)
    ranks = [fed(part) for part in numbers.split([700, 299, 1])]
    states = [rank.moments.clone() for rank in ranks]
    # what torch.distributed.all_gather would give
    ranks[0].dist_sync_fn = lambda state, group: states
    ranks[0].distributed_available_fn = lambda: True
    mean, ci95 = ranks[0].compute()
    assert mean.item() == pytest.approx(reference(numbers)[0], rel=1e-12)
    assert ci95.item() == pytest.approx(reference(numbers)[1], rel=1e-10)


def test_forward_gives_the_value_of_the_batch_and_keeps_that_of_all():
    metric, (first, second) = MeanConfidence(), values(20).split(10)
    metric(first)
    assert metric(second).mean.item() == pytest.approx(reference(second)[0], rel=1e-12)
    assert metric.compute().ci95.item() == pytest.approx(reference(values(20))[1], rel=1e-12)


def test_reset_forgets_and_a_cast_of_the_model_does_not_lose_precision():
    module = nn.Module()
    module.metric = fed(values(10))
    module.to(torch.float16)
    module.metric.update(values(10))
    assert module.metric.moments.dtype == torch.float64
    module.metric.reset()
    module.metric.update(values(3))
    assert module.metric.compute().mean.item() == pytest.approx(reference(values(3))[0], rel=1e-12)
