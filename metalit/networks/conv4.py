"""The four-block convolutional network of the few-shot literature."""

from torch import Tensor, nn


class Conv4(nn.Module):
    """Four blocks of convolution, batch norm, ReLU and max-pool (Vinyals et al., 2016).

    The network of nearly every few-shot paper on Omniglot and mini-ImageNet. Unless it tracks
    running statistics, batch norm uses those of the batch it is given in evaluation too, as MAML
    does: a running average over tasks would fit none of them. An output then depends on the other
    images of its set.
    Differs from Finn et al. (2017): max-pooling on Omniglot too (they use stride 2 there), and
    torch's default initialisation instead of a truncated normal one. Weights come from torch's
    global seed (`seed_everything`).

    Attributes:
        encoder: The blocks and a flatten: images of shape `(N, in_channels, image_size,
            image_size)` to features of shape `(N, features)`.
        head: The linear layer from features to `(N, way)` logits.
        features: Number of features, `hidden * (image_size // 2**blocks) ** 2`.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        way: Number of outputs; the `way` of the episodes.
        image_size: Height and width, in pixels; every block halves it, rounding down.
        hidden: Channels of every block; 64 on Omniglot, often 32 on mini-ImageNet.
        blocks: Number of blocks; 3 for 8 x 8 images.
        track_running_stats: Whether batch norm keeps running statistics for evaluation, as a
            learner such as `FineTuned` wants, which trains the ordinary way; `MAML` refuses it.

    Raises:
        ValueError: If an argument is smaller than 1 or the image too small for the blocks.

    Example:
        >>> Conv4(in_channels=1, way=5, image_size=28).features
        64

    References:
        Matching Networks for One Shot Learning, https://arxiv.org/abs/1606.04080
        Model-Agnostic Meta-Learning, https://arxiv.org/abs/1703.03400
    """

    def __init__(
        self,
        in_channels: int,
        way: int,
        image_size: int,
        hidden: int = 64,
        blocks: int = 4,
        track_running_stats: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "way": way, "hidden": hidden, "blocks": blocks}
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(f"{name}={value} should be at least 1.")
        if image_size < 2**blocks:
            raise ValueError(
                f"image_size={image_size} is too small for blocks={blocks}, which need "
                f"{2**blocks} pixels or more: lower blocks or enlarge the images."
            )
        self.in_channels = in_channels
        self.way = way
        self.image_size = image_size
        self.hidden = hidden
        self.blocks = blocks
        self.track_running_stats = track_running_stats
        self.features = hidden * (image_size // 2**blocks) ** 2
        channels = [in_channels] + [hidden] * (blocks - 1)
        layers = (_block(c, hidden, track_running_stats) for c in channels)
        self.encoder = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(self.features, way)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images.

        Args:
            x: Images of shape `(N, in_channels, image_size, image_size)`, float, values 0 to 1.

        Returns:
            Logits of shape `(N, way)`.
        """
        logits: Tensor = self.head(self.encoder(x))
        return logits


def _block(in_channels: int, out_channels: int, track_running_stats: bool) -> nn.Sequential:
    """One block; it halves height and width."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.BatchNorm2d(out_channels, track_running_stats=track_running_stats),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
