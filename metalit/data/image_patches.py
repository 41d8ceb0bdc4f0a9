"""Patches of unlabelled images, for `predict`: one episode an image."""

from collections import Counter
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from PIL import Image, ImageCms
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader, Dataset

from ..datasets.images import find_images, open_image
from ..episodes import Episode, Samples
from .seeds import episode_seeds


class ImagePatches(LightningDataModule):
    """Every image is a task: learn from some of its patches, answer for the patches of a grid.

    The support set of an image is a random subset of its patches, without labels; the query set
    holds the patches around the centres of a grid of cells of `stride` pixels, row by row, so that
    the answers are a map of the image. At the border an image is continued by its reflection. x
    has shape `(N, 3, patch_size, patch_size)`.

    Args:
        source: A folder of images, also in subfolders, or one image; None means china.jpg and
            flower.jpg, which come with scikit-learn.
        image_size: Longest side to which larger images are brought, in pixels; None keeps all.
        patch_size: Height and width of a patch, in pixels, odd.
        stride: Distance of neighbouring query patches, in pixels.
        support_patches: Number of patches to learn from; all, where an image has fewer.
        colors: "lab" is CIELAB, with every channel brought to mean 0 and standard deviation 1 of
            its image, so that a hue counts as much as brightness; "rgb" is red, green and blue,
            0 to 1.
        seed: Seed of the choice of support patches.

    Raises:
        FileNotFoundError: If `source` does not exist.
        ValueError: If an argument is out of range, or an image cannot be read or is too small.

    Attributes:
        names: Name of every image: its path in the folder, without the suffix where it is the only
            one of that name.

    Example:
        >>> data = ImagePatches(stride=16)
        >>> data.setup("predict")
        >>> data.names, data.episode(0).query.x.shape
        (['china', 'flower'], torch.Size([1, 1080, 3, 9, 9]))
    """

    def __init__(
        self,
        source: str | None = None,
        image_size: int | None = 640,
        patch_size: int = 9,
        stride: int = 2,
        support_patches: int = 4000,
        colors: Literal["lab", "rgb"] = "lab",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if patch_size < 1 or patch_size % 2 == 0:
            raise ValueError(
                f"patch_size={patch_size} should be odd, so that patches have a centre."
            )
        sizes = {"stride": stride, "support_patches": support_patches, "image_size": image_size}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} should be at least 1.")
        self.source = source
        self.image_size = image_size
        self.patch_size = patch_size
        self.stride = stride
        self.support_patches = support_patches
        self.colors = colors
        self.seed = seed
        self.names: list[str] = []

    def setup(self, stage: str) -> None:
        """Find the images; each is read when its turn comes."""
        if self.source is None:
            folder = Path(str(files("sklearn.datasets.images")))
            paths = [Path("china.jpg"), Path("flower.jpg")]
        elif Path(self.source).is_file():
            folder, paths = Path(self.source).parent, [Path(Path(self.source).name)]
        else:
            folder, paths = Path(self.source), find_images(self.source)
        self._files = [folder / path for path in paths]
        counts = Counter(path.with_suffix("") for path in paths)
        self.names = [
            (path.with_suffix("") if counts[path.with_suffix("")] == 1 else path).as_posix()
            for path in paths
        ]

    def train_dataloader(self) -> DataLoader[Episode]:
        """Refuse: these are tasks to answer for, not to learn from."""
        raise ValueError(
            "ImagePatches has no episodes to train or test on: use it with `predict`, or train on "
            "an ImageFolder with EpisodeDataModule."
        )

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self) -> DataLoader[Episode]:
        """Return a loader of one episode an image."""
        return DataLoader(_Episodes(self), batch_size=1, collate_fn=itemgetter(0))

    def episode(self, index: int) -> Episode:
        """Return the episode of an image, a meta-batch of one."""
        patches = self._patches(index)  # [C, H, W, p, p]
        height, width = patches.shape[1:3]
        generator = torch.Generator().manual_seed(episode_seeds(self.seed, "predict", index)[0])
        chosen = torch.randperm(height * width, generator=generator)[: self.support_patches]
        support = patches[:, chosen // width, chosen % width].transpose(0, 1)
        rows, columns = _centres(height, self.stride), _centres(width, self.stride)
        query = patches[:, rows][:, :, columns].flatten(1, 2).transpose(0, 1)
        return Episode(*(Samples(x[None], torch.full((1, len(x)), -1)) for x in (support, query)))

    def image(self, index: int) -> Image.Image:
        """Return an image as it is, upright, in red, green and blue."""
        return open_image(self._files[index], channels=3)

    def spread(self, index: int, values: NDArray[Any]) -> NDArray[Any]:
        """Bring one small integer a query patch to one a pixel of the image as it is.

        Args:
            index: Number of the image.
            values: Integers from 0 to 255, one a query patch, of shape `(Q,)`.

        Returns:
            An array of shape `(height, width)`, by nearest neighbour.
        """
        image = self.image(index)
        width, height = self._size(image)
        cells = values.astype(np.uint8).reshape(-(-height // self.stride), -1)
        pixels = cells.repeat(self.stride, 0).repeat(self.stride, 1)[:height, :width]
        return np.asarray(Image.fromarray(pixels).resize(image.size, Image.Resampling.NEAREST))

    def _size(self, image: Image.Image) -> tuple[int, int]:
        """Width and height at which patches are cut."""
        factor = min(1.0, (self.image_size or max(image.size)) / max(image.size))
        width, height = (max(1, round(side * factor)) for side in image.size)
        return width, height

    def _patches(self, index: int) -> Tensor:
        """View all patches of an image, of shape `(C, H, W, patch_size, patch_size)`."""
        image = self.image(index)
        image = image.resize(self._size(image), Image.Resampling.LANCZOS)
        margin = self.patch_size // 2
        if margin >= min(image.size):
            raise ValueError(
                f"{self._files[index]} has {image.width} x {image.height} pixels but "
                f"patch_size={self.patch_size} needs {margin + 1} or more a side: lower "
                "patch_size, or take larger images."
            )
        pixels = _standardized_lab(image) if self.colors == "lab" else np.asarray(image) / 255
        x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)
        x = pad(x[None], [margin] * 4, mode="reflect")[0]
        return x.unfold(1, self.patch_size, 1).unfold(2, self.patch_size, 1)


class _Episodes(Dataset[Episode]):
    """The episodes of a data module, read one by one."""

    def __init__(self, data: ImagePatches) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.names)

    def __getitem__(self, index: int) -> Episode:
        return self.data.episode(index)


def _centres(size: int, stride: int) -> Tensor:
    """Middle pixels of the cells of one side; the last cell may be cut off."""
    return (torch.arange(0, size, stride) + stride // 2).clamp_max(size - 1)


def _standardized_lab(image: Image.Image) -> NDArray[np.float64]:
    """CIELAB of shape `(H, W, 3)`, each channel with mean 0 and standard deviation 1."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = np.asarray(
        ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    )
    # Pillow stores the signed channels a and b in unsigned bytes
    channels = np.concatenate([lab[..., :1].astype(float), lab[..., 1:].astype(np.int8)], axis=2)
    deviation = channels.std(axis=(0, 1))
    centred = channels - channels.mean(axis=(0, 1))
    return np.asarray(centred / np.where(deviation > 0, deviation, 1))
