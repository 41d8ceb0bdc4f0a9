"""Omniglot, read from its official archives."""

import hashlib
import io
import re
import shutil
import urllib.request
import uuid
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import TensorDataset

from ._splits import check_split

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
MD5 = {
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
# All other alphabets are in train, except for characters 42 to 45 of Gurmukhi, which are in test.
_VINYALS = {
    "val": ["Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"],
    "test": [
        *(
            "Kannada",
            "Keble",
            "Malayalam",
            "Manipuri",
            "Mongolian",
            "Old_Church_Slavonic_(Cyrillic)",
        ),
        *("Oriya", "Sylheti", "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG"),
    ],
}
_LAKE_VAL = ("Ojibwe", "Sanskrit", "Syriac_(Estrangelo)", "Tagalog", "Tifinagh")
_MEMBER = re.compile(r"images_[a-z]+/([^/]+/character\d+)/\d+_\d+\.png")


class Omniglot(TensorDataset):
    """1,623 handwritten characters of 50 alphabets, 20 drawings each (Lake et al., 2015).

    The two official archives are read where they lie, without unpacking; one split takes 1 to 5
    seconds (20,560 training images: 4.4 s on one core) and the images stay in memory. x is uint8 of
    shape `(N, 1, image_size, image_size)`, ink 255 on 0, the 105 x 105 originals inverted and
    resized by PIL in grey with the Lanczos filter; y is int64 of shape `(N,)`, one class a
    character, sorted by alphabet, character and drawer.

    The partition "vinyals" (1,028 train, 172 val, 423 test characters; Vinyals et al., 2016) is the
    one of most few-shot papers; its assignment is taken from github jakesnell/prototypical-networks
    and needs both archives. The partition "lake" trains on the background archive without its last
    five alphabets by name, which are val, and tests on the evaluation archive, so that no test
    alphabet was seen; Lake's own has no val. The archives lie in `root`; their MD5 is checked after
    a download only, since a copy zipped anew is as good.

    Attributes:
        classes: "Alphabet/characterNN" in the order of y, with "/rot090" and so on where rotated.

    Args:
        split: "train", "val" or "test".
        root: Folder of images_background.zip and images_evaluation.zip.
        download: Fetch an archive that is not in `root`, about 15 MB for both.
        partition: Which characters belong to which split.
        rotations: Turn every character by 0, 90, 180 and 270 degrees, each a class of its own
            (Santoro et al., 2016): four times the classes, in this split. Character c turned r
            times, anticlockwise, is y = c + r * (number of characters). "train" turns only the
            training split, so that the test stays that of the papers' unsupervised methods.
        image_size: Height and width, in pixels.
        url: Folder that `download` fetches from.

    Raises:
        FileNotFoundError: If an archive is not in `root` and `download` is off.
        ValueError: If an argument is unknown, an archive is broken or holds nothing of the split.
        RuntimeError: If the download fails or its MD5 is not the official one.

    References:
        Human-level concept learning through probabilistic program induction,
        https://doi.org/10.1126/science.aab3050
        Matching Networks for One Shot Learning, https://arxiv.org/abs/1606.04080
        Meta-Learning with Memory-Augmented Neural Networks, https://arxiv.org/abs/1605.06065
    """

    def __init__(
        self,
        split: str,
        root: str,
        download: bool = False,
        partition: Literal["vinyals", "lake"] = "vinyals",
        rotations: bool | Literal["train"] = False,
        image_size: int = 28,
        url: str = URL,
    ) -> None:
        check_split(split)
        if partition not in ("vinyals", "lake"):
            raise ValueError(f"partition={partition!r} is unknown: use 'vinyals' or 'lake'.")
        if image_size < 1:
            raise ValueError(f"image_size={image_size} should be at least 1.")
        self.split = split
        self.root = root
        self.download = download
        self.partition = partition
        self.rotations = rotations
        self.image_size = image_size
        self.url = url
        images: list[NDArray[np.uint8]] = []
        characters: list[str] = []
        for name in _archives(split, partition):
            path = Path(root).expanduser() / f"{name}.zip"
            if not path.is_file():
                if not download:
                    raise FileNotFoundError(
                        f"{path.name} is not in {path.parent}: put the official archive there or "
                        "pass download=True."
                    )
                download_file(f"{url.rstrip('/')}/{path.name}", path, MD5[name])
            read_archive(path, split, partition, image_size, images, characters)
        if not images:
            raise ValueError(
                f"the archives in {root} hold no image of the split {split!r} of "
                f"partition={partition!r}: use the official archives or another split."
            )
        x, y, self.classes = _assemble(images, characters, rotations in (True, split))
        super().__init__(x, y)


def split_of(character: str, evaluation: bool, partition: str) -> str:
    """Return the split that a character ("Alphabet/characterNN") belongs to.

    Args:
        character: Its name in the archive.
        evaluation: Whether it comes from the evaluation archive.
        partition: "vinyals" or "lake".
    """
    alphabet, number = character.split("/character")
    if partition == "lake":
        if evaluation:
            return "test"
        return "val" if alphabet.startswith(_LAKE_VAL) else "train"
    if alphabet == "Gurmukhi" and int(number) >= 42:
        return "test"
    return next((split for split, names in _VINYALS.items() if alphabet in names), "train")


def download_file(url: str, path: Path, md5: str) -> None:
    """Fetch a file to a temporary name beside `path`, check it, and only then give it its name.

    Args:
        url: Address of the file.
        path: Where it belongs; its folder is made.
        md5: The checksum it must have, in hexadecimal.

    Raises:
        RuntimeError: If it cannot be fetched or has another checksum; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        try:
            with urllib.request.urlopen(url, timeout=60) as source, temporary.open("wb") as target:
                shutil.copyfileobj(source, target)
        except (OSError, ValueError, HTTPException) as error:
            raise RuntimeError(
                f"{url} could not be fetched ({error}): try again or put {path.name} into "
                f"{path.parent} yourself."
            ) from error
        found = hashlib.md5(temporary.read_bytes(), usedforsecurity=False).hexdigest()
        if found != md5:
            raise RuntimeError(
                f"{url} has MD5 {found} but should have {md5}: try again or put {path.name} into "
                f"{path.parent} yourself."
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_archive(
    path: Path,
    split: str,
    partition: str,
    image_size: int,
    images: list[NDArray[np.uint8]],
    characters: list[str],
) -> None:
    """Append the split's images in an archive, and the character of each, to the two lists."""
    evaluation = path.stem == "images_evaluation"
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist()):
                match = _MEMBER.fullmatch(member)
                if match and split_of(match[1], evaluation, partition) == split:
                    images.append(_read_image(archive.read(member), image_size))
                    characters.append(match[1])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} is broken ({error}): delete it and pass download=True."
        ) from error


def _read_image(data: bytes, size: int) -> NDArray[np.uint8]:
    """Decode, invert and resize one image."""
    with Image.open(io.BytesIO(data)) as image:
        grey = image.convert("L").resize((size, size), Image.Resampling.LANCZOS)
    return 255 - np.asarray(grey, dtype=np.uint8)


def _archives(split: str, partition: str) -> list[str]:
    """Names of the archives that hold something of the split."""
    if split == "test":
        return ["images_evaluation"]
    if split == "val" or partition == "lake":
        return ["images_background"]
    return ["images_background", "images_evaluation"]


def _assemble(
    images: list[NDArray[np.uint8]], characters: list[str], rotations: bool
) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Stack the images, number the characters and add the rotations."""
    x = torch.from_numpy(np.stack(images)).unsqueeze(1)
    classes = sorted(set(characters))
    number = {name: i for i, name in enumerate(classes)}
    y = torch.tensor([number[name] for name in characters])
    order = torch.argsort(y, stable=True)  # the archives come one after the other
    x, y = x[order], y[order]
    if not rotations:
        return x, y, classes
    x = torch.cat([torch.rot90(x, r, dims=(2, 3)) for r in range(4)])
    y = torch.cat([y + r * len(classes) for r in range(4)])
    return x, y, [f"{name}/rot{90 * r:03d}" for r in range(4) for name in classes]
