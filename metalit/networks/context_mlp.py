"""A multilayer perceptron that is normalised by the statistics of a context."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

SMALLEST = 1e-5  # added to variances, as torch's batch norm does


class ContextMLP(nn.Module):
    """Maps query rows by layers of which each is normalised by the rows of a context.

    Each hidden layer is linear, then batch norm with the mean and variance of the context's units,
    then ReLU. So the context adapts the network without gradient steps, and a query row is mapped
    the same whatever rows are beside it. A query that equals the context is ordinary batch norm in
    training mode. The rows themselves are normalised first.

    Args:
        in_features: Columns of a row.
        hidden: Units of each hidden layer, one at least.
        out_features: Columns of the embedding.

    Raises:
        ValueError: If a number of units is smaller than 1, or there is no hidden layer.

    Example:
        >>> network = ContextMLP(3, [16], 4)
        >>> network(torch.randn(20, 3), torch.randn(5, 3)).shape
        torch.Size([5, 4])

    References:
        Batch Normalization, https://arxiv.org/abs/1502.03167
    """

    def __init__(self, in_features: int, hidden: list[int], out_features: int) -> None:
        super().__init__()
        if not hidden or min(in_features, *hidden, out_features) < 1:
            raise ValueError(
                f"in_features={in_features}, hidden={hidden}, out_features={out_features}: give a "
                "hidden layer, and at least 1 unit everywhere."
            )
        self.in_features = in_features
        self.hidden = hidden
        self.out_features = out_features
        sizes = [in_features, *hidden]
        # the mean is taken out again, so that a bias would change nothing
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.gains = nn.ParameterList(torch.ones(size) for size in hidden)
        self.offsets = nn.ParameterList(torch.zeros(size) for size in hidden)
        self.head = nn.Linear(hidden[-1], out_features)

    def forward(self, context: Tensor, query: Tensor) -> Tensor:
        """Map query rows `(Q, D)`, normalised by a context `(S, D)`, to `(Q, out_features)`."""
        context, query = _normalise(context, query)
        for layer, gain, offset in zip(self.layers, self.gains, self.offsets, strict=True):
            weight = layer.get_parameter("weight")
            parts = _normalise(linear(context, weight), linear(query, weight))
            context, query = (relu(part * gain + offset) for part in parts)
        embedded: Tensor = self.head(query)
        return embedded


def _normalise(context: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the mean of the context from both, divide by its standard deviation."""
    mean, variance = context.mean(0), context.var(0, correction=0)
    scale = (variance + SMALLEST).rsqrt()
    return (context - mean) * scale, (query - mean) * scale
