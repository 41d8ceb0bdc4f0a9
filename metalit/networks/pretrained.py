"""A part of a trained model, read from its checkpoint."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn


class PretrainedEncoder(nn.Module):
    """Applies a frozen part of a meta-trained model, for example to embed data for CACTUs.

    It stays in evaluation mode and takes no gradient.

    Args:
        checkpoint: Path of a checkpoint of `MetaLearner`.
        submodule: Name of the part within the model, in the form of `named_modules`.

    Raises:
        ValueError: If there is no such file, or no such part in the model.

    Example:
        >>> from metalit.tasks import ClusterTasks
        >>> tasks = ClusterTasks(embedding=PretrainedEncoder("run/last.ckpt"))  # doctest: +SKIP
    """

    def __init__(self, checkpoint: str, submodule: str = "learner.network.encoder") -> None:
        super().__init__()
        from ..meta_learner import MetaLearner

        if not Path(checkpoint).is_file():
            raise ValueError(
                f"checkpoint={str(checkpoint)!r} is no file but a checkpoint is needed: give the "
                "path of a .ckpt file, such as last.ckpt in the folder of a run."
            )
        model = MetaLearner.load_from_checkpoint(checkpoint, map_location="cpu")
        parts = dict(model.named_modules())
        if submodule not in parts:
            raise ValueError(
                f"the model in {checkpoint} has no part {submodule!r} but submodule must name one: "
                f"choose from {', '.join(filter(None, parts))}."
            )
        self.checkpoint = checkpoint
        self.submodule = submodule
        self.encoder = parts[submodule].requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Encode x of shape `(N, *features)` to `(N, D)`."""
        embedded: Tensor = self.encoder(x).flatten(1)
        return embedded
