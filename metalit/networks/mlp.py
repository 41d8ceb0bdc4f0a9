"""A multilayer perceptron."""

from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """A multilayer perceptron for tables, sinusoids and small images.

    `MLP(1, [40, 40], 1)` is the sinusoid network of MAML (Finn et al., 2017), except that the
    weights have torch's default initialisation, from torch's global seed (`seed_everything`).

    Attributes:
        encoder: Flatten, then a linear layer and the activation for every hidden layer; gives
            features of shape `(N, features)`.
        head: The linear layer from features to `(N, out_features)`.
        features: Number of features: units of the last hidden layer.

    Args:
        in_features: Numbers in one example; an image counts all its pixels and channels.
        hidden: Units of the hidden layer, or of each of several; an empty list is a linear model.
        out_features: Number of outputs; the `way` of classification episodes.
        activation: Follows every hidden layer, ReLU if None. All layers use this one module, so
            its parameters, if it has any, are shared. For second derivatives that are smooth take
            `nn.Softplus()` or `nn.Tanh()`.

    Raises:
        ValueError: If a number of units is smaller than 1.

    Example:
        >>> MLP(10, 32, 3).features
        32

    References:
        Model-Agnostic Meta-Learning, https://arxiv.org/abs/1703.03400
    """

    def __init__(
        self,
        in_features: int,
        hidden: int | list[int],
        out_features: int,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widths = [in_features, *([hidden] if isinstance(hidden, int) else hidden)]
        if min(widths) < 1 or out_features < 1:
            raise ValueError(
                f"in_features={in_features}, hidden={hidden}, out_features={out_features}: every "
                "number of units should be at least 1."
            )
        self.in_features = in_features
        self.hidden = hidden
        self.out_features = out_features
        self.activation = activation
        self.features = widths[-1]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU() if activation is None else activation]
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(self.features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map examples to outputs.

        Args:
            x: Inputs of shape `(N, *features)` with `in_features` numbers each, float.

        Returns:
            Outputs of shape `(N, out_features)`.
        """
        outputs: Tensor = self.head(self.encoder(x))
        return outputs
