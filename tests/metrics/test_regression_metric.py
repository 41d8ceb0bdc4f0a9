"""The mean squared error against scikit-learn."""

import pytest
import torch
from sklearn.metrics import mean_squared_error

from metalit.metrics import MeanSquaredError


@pytest.mark.parametrize("d", [1, 3])
def test_mean_squared_error_equals_scikit_learns_for_each_episode(d):
    generator = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(2, 4, 10, d, generator=generator)
    expected = [mean_squared_error(t, z) for z, t in zip(outputs, y, strict=True)]
    assert torch.allclose(MeanSquaredError()(outputs, y), torch.tensor(expected))


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 5, 1\) and targets of shape \(2, 5\)"):
        MeanSquaredError()(torch.zeros(2, 5, 1), torch.zeros(2, 5))
