"""Networks as users write them, for comparisons of one way to run tasks with another."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE, TABLE, SEQUENCE = (2, 9, 8), (6,), (5, 8)


class Residual(nn.Module):
    """A residual block that adds and rectifies in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, track_running_stats=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels, track_running_stats=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += x
        return self.relu(y)


class Attention(nn.Module):
    """A small vision transformer without a library's fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.position = nn.Parameter(torch.randn(5, 8) * 0.1)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, 2, width // 2)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))
        return self.head((x + self.mlp(self.norm2(x))).mean(dim=1))


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Functional(nn.Module):
    """Operations on shapes, indices and constants as they come in written-out networks."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, 3, 3) * 0.3)
        self.head = nn.Linear(3 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 1, 1, 1))[:, :, 1:]
        x = F.conv2d(x, self.weight, stride=2) * torch.tensor([1.0, -1.0, 2.0]).to(x)[:, None, None]
        x = torch.cat([F.softplus(x), 1 - x.clamp(min=0.1)], dim=1)[:, 1:4]
        assert x.shape[1:] == (3, 4, 4), x.shape
        assert x.size(1) == 3
        assert len(x) == x.shape[0]
        x = x.view(x.size(0), -1)
        return (
            self.head(x - x.mean(dim=1, keepdim=True)) / (1 + x.pow(2).sum(1, keepdim=True)).sqrt()
        )


class Gradless(nn.Module):
    """Looks at activations, and at those of a frozen layer, without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm1, self.norm2 = _norm(4), _norm(4)
        self.head = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        with torch.no_grad():
            frozen = self.norm2(y)
        y = torch.relu(self.norm1(y))
        with torch.no_grad():
            scale = 1 + y.mean()
        y = F.max_pool2d(y, 2) + F.max_pool2d(torch.relu(frozen), 2)
        return self.head(y.flatten(1)) / scale


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _conv4() -> nn.Module:
    blocks: list[nn.Module] = []
    for before in (2, 4):
        blocks += [nn.Conv2d(before, 4, 3, padding=1), _norm(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(16, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "blocks": (_conv4, IMAGE),
    "blocks in place": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            _norm(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(36, 3),
        ),
        IMAGE,
    ),
    "pool before ReLU": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            _norm(4),
            nn.MaxPool2d((3, 2)),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 3),
        ),
        IMAGE,
    ),
    "overlapping and padded pools": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            _norm(4),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(16, 3),
        ),
        IMAGE,
    ),
    "stride, padding, dilation, groups": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2)),
            nn.Tanh(),
            nn.Conv2d(4, 6, 3, dilation=2, padding=2, groups=2),
            nn.Softplus(),
            nn.Conv2d(6, 6, 3, groups=6, padding="same", bias=False),
            nn.SiLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        IMAGE,
    ),
    "norm without affine, global pool": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm2d(4, affine=False, track_running_stats=False),
            nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        IMAGE,
    ),
    "group, instance and layer norm": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.GroupNorm(2, 4),
            nn.ELU(),
            nn.Conv2d(4, 4, 3),
            nn.InstanceNorm2d(4, affine=True),
            nn.GELU(),
            nn.Flatten(),
            nn.LayerNorm(80),
            nn.Linear(80, 3),
        ),
        IMAGE,
    ),
    "residual": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), Residual(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
        ),
        IMAGE,
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(2, 3, 2, stride=2),
            nn.Tanh(),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(12, 3),
        ),
        IMAGE,
    ),
    "one-dimensional": (
        lambda: nn.Sequential(
            nn.Conv1d(5, 4, 3),
            nn.BatchNorm1d(4, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Flatten(),
            nn.Linear(12, 3),
        ),
        SEQUENCE,
    ),
    "parts without a gradient": (Gradless, IMAGE),
    "attention": (Attention, SEQUENCE),
    "multi-head attention": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
            nn.Flatten(),
            nn.Linear(40, 3),
        ),
        SEQUENCE,
    ),
    "perceptron": (
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        ),
        TABLE,
    ),
    "batch norm of a table": (
        lambda: nn.Sequential(
            nn.Linear(6, 8),
            nn.BatchNorm1d(8, track_running_stats=False),
            nn.ReLU(),
            nn.Linear(8, 3, bias=False),
        ),
        TABLE,
    ),
    "dropout": (
        lambda: nn.Sequential(
            nn.Linear(6, 16),
            nn.Tanh(),
            nn.Dropout(0.4),
            nn.Linear(16, 8),
            nn.Dropout(0.2),
            nn.Tanh(),
            nn.Linear(8, 3),
        ),
        TABLE,
    ),
    "dropout in place": (
        lambda: nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.4, True), nn.Tanh(), nn.Linear(16, 3)),
        TABLE,
    ),
    "tied": (Tied, TABLE),
    "functional": (Functional, IMAGE),
    "bilinear and learned activation": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.PReLU(8), nn.Softmax(dim=1), nn.Linear(8, 3)),
        TABLE,
    ),
}
