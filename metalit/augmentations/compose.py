"""Augmentations made of others: a sequence of ours, or any module that draws for itself."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import Augmentation


class Compose(Augmentation):
    """Applies augmentations one after the other.

    Args:
        augmentations: In the order of application; an empty list leaves the images as they are.

    Example:
        >>> from metalit.augmentations import Flip, Noise
        >>> augment = Compose([Flip(), Noise(std=0.1)])
        >>> augment(torch.rand(1, 5, 3, 8, 8), [torch.Generator().manual_seed(0)]).shape
        torch.Size([1, 5, 3, 8, 8])
    """

    def __init__(self, augmentations: list[Augmentation]) -> None:
        super().__init__()
        self.augmentations = augmentations
        self.steps = nn.ModuleList(augmentations)  # a plain list would not follow train() or to()

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Apply them all; each goes on with the generators where the one before left them."""
        for augmentation in self.steps:
            x = augmentation(x, generators)
        return x


class FromModule(Augmentation):
    """Makes any image module an augmentation that can be reproduced, such as kornia's.

    Such modules draw from torch's global generator. Here it is seeded for each episode from the
    episode's own generator, and put back afterwards. The module is called once an episode, so
    that an episode does not depend on the others. A module that draws on the device gives other
    numbers on a GPU than on a CPU; kornia draws on the CPU by default.

    Args:
        module: Maps images of shape `(N, C, H, W)` to the same shape. Values outside 0 to 1 are
            not clamped: keep to modules that stay in this range unless the network wants others.

    Raises:
        ValueError: If the module changes the shape.

    Example:
        >>> augment = FromModule(nn.Dropout(0.1))
        >>> augment(torch.rand(1, 5, 3, 8, 8), [torch.Generator().manual_seed(0)]).shape
        torch.Size([1, 5, 3, 8, 8])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Call the module for each episode, with torch's generators seeded from the episode's."""
        self.module.to(x.device)
        devices = [x.device] if x.is_cuda else []
        episodes = []
        with torch.random.fork_rng(devices):
            for images, generator in zip(x, generators, strict=True):
                seed = int(torch.randint(2**62, (), generator=generator))
                torch.default_generator.manual_seed(seed)
                if x.is_cuda:
                    torch.cuda.manual_seed(seed)
                episodes.append(self._augment(images))
        return torch.stack(episodes)

    def _augment(self, images: Tensor) -> Tensor:
        """Augment one episode and check the shape of the result."""
        augmented: Tensor = self.module(images)
        if augmented.shape != images.shape:
            raise ValueError(
                f"{type(self.module).__name__} returns shape {tuple(augmented.shape)} for images "
                f"of shape {tuple(images.shape)}: choose a module that keeps the shape."
            )
        return augmented.to(images.dtype)
