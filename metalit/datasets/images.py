"""A folder of the user's own images."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch.utils.data import TensorDataset

from ._splits import SPLITS, check_parts, check_split, select, select_all

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


class ImageFolder(TensorDataset):
    """A folder of images, with or without labels.

    An image in a subfolder belongs to the class of that name; an image directly in the folder has
    no label. With `by="row"` unlabelled images and subfolders with a few examples may lie together.
    If `root` holds `train` and at least one of `val` and `test`, these folders are the splits;
    otherwise the split is drawn at random, the same for the same images and seed. x is uint8 of
    shape `(N, channels, image_size, image_size)`; y is int64 of shape `(N,)`, -1 for "no label",
    and left out where no image of the split has one.

    Attributes:
        classes: Class names in the order of y; empty without labels.
        names: Path of every image within its folder, in the order of x.

    Args:
        split: "train", "val" or "test".
        root: The folder.
        image_size: Height and width, in pixels. Images are scaled until the shorter side fits
            (Lanczos filter) and cropped around the centre.
        channels: 1 for grey, 3 for colour.
        invert: Swap dark and bright, for dark ink on white paper.
        fractions: Shares of train, val and test; not used where they have folders.
        by: "class" gives every class to one split, so that test classes are new, as few-shot
            evaluation wants it (unlabelled images go to train); "row" deals out single images.
            Without labels single images are dealt out.
        seed: Fixes the random split.

    Raises:
        FileNotFoundError: If the folder, or the folder of the split, does not exist.
        ValueError: If an argument is out of range, an image is broken, or there are too few images.
    """

    def __init__(
        self,
        split: str,
        root: str,
        image_size: int,
        channels: Literal[1, 3] = 1,
        invert: bool = False,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        by: Literal["class", "row"] = "class",
        seed: int = 0,
    ) -> None:
        check_split(split)
        check_parts(fractions, by)
        self.split = split
        self.root = root
        self.image_size = image_size
        self.channels = channels
        self.invert = invert
        self.fractions = fractions
        self.by = by
        self.seed = seed
        folder = Path(root).expanduser()
        has_folders = (folder / "train").is_dir() and any(
            (folder / name).is_dir() for name in SPLITS[1:]
        )
        source = folder / split if has_folders else folder
        images, labels, names = read_images(str(source), image_size, channels, invert)
        text = None if labels is None else np.array(labels)
        if has_folders:
            chosen = select_all(text, len(images))
        else:
            chosen = select(split, text, len(images), fractions, by, seed)
        self.classes = chosen.classes
        self.names = [names[row] for row in chosen.rows]
        x = torch.from_numpy(images[chosen.rows])
        super().__init__(*([x] if chosen.y is None else [x, torch.from_numpy(chosen.y)]))


def read_images(
    folder: str, image_size: int, channels: int = 1, invert: bool = False
) -> tuple[NDArray[np.uint8], list[str] | None, list[str]]:
    """Read all images of a folder and its subfolders, sorted by path.

    Reads png, jpg, jpeg, bmp, gif (the first frame) and webp; other files and hidden ones are left
    out. Transparent pixels become white, and photographs are turned upright by their EXIF tag.

    Args:
        folder: The folder; the first subfolder on the way to an image is the name of its class.
        image_size: Height and width, in pixels; see `ImageFolder`.
        channels: 1 for grey, 3 for colour.
        invert: Swap dark and bright.

    Returns:
        Images of shape `(N, channels, image_size, image_size)`; class names, "" for an image
        without one, or None if there is no class at all; paths within the folder.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If an argument is out of range, there is no image, or one cannot be read.
    """
    if image_size < 1 or channels not in (1, 3):
        raise ValueError(
            f"image_size={image_size}, channels={channels}: image_size should be at least 1 and "
            "channels 1 or 3."
        )
    paths = find_images(folder)
    images = np.stack([_read_image(Path(folder) / path, image_size, channels) for path in paths])
    labels = [path.parts[0] if len(path.parts) > 1 else "" for path in paths]
    names = [path.as_posix() for path in paths]
    return 255 - images if invert else images, labels if any(labels) else None, names


def find_images(folder: str) -> list[Path]:
    """Return the paths of all images in a folder and its subfolders, within it, sorted.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If there is no image.
    """
    top = Path(folder)
    if not top.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: give the folder that holds the images.")
    found = (path.relative_to(top) for path in top.rglob("*") if path.suffix.lower() in _SUFFIXES)
    paths = sorted(path for path in found if not any(p.startswith(".") for p in path.parts))
    if not paths:
        raise ValueError(f"{folder} holds no image: put {', '.join(_SUFFIXES)} files there.")
    return paths


def open_image(path: Path, channels: int) -> Image.Image:
    """Read one image in grey or colour, upright, on white where it is transparent.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # PIL's conversion to 8 bits would clip 16-bit greys
            image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # PIL raises SyntaxError, OSError, ValueError, struct.error and more
        raise ValueError(
            f"{path} cannot be read as an image ({error}): repair or remove it."
        ) from error


def _read_image(path: Path, size: int, channels: int) -> NDArray[np.uint8]:
    """Read one image as uint8 of shape `(channels, size, size)`."""
    image = ImageOps.fit(open_image(path, channels), (size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
