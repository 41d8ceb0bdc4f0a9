"""Omniglot from small archives of the official layout, and from the real ones where they are."""

import csv
import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metalit.datasets import Omniglot
from metalit.datasets.omniglot import MD5, download_file, split_of

REAL = Path(os.environ.get("METALIT_DATA", "no such folder")) / "omniglot"
needs_archives = pytest.mark.skipif(
    not (REAL / "images_background.zip").is_file(),
    reason="METALIT_DATA/omniglot/images_background.zip is not there",
)
BACKGROUND = ["Armenian", "Balinese", "Tifinagh"]  # vinyals: val, train, train; lake: -, -, val
EVALUATION = ["Angelic", "Kannada"]  # vinyals: train, test


def drawing(alphabet, character, drawer):
    """White paper with a black mark whose place tells which image it is."""
    paper = np.full((105, 105), True)
    paper[10 * character : 10 * character + 10, 10 * drawer : 10 * drawer + 10] = False
    paper[90:100, len(alphabet) * 5 : len(alphabet) * 5 + 5] = False
    return paper


def write_archive(root, name, alphabets):
    with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
        archive.writestr(f"{name}/", "")
        for alphabet in alphabets:
            for character in (2, 1):
                for drawer in (1, 2, 3):
                    data = io.BytesIO()
                    Image.fromarray(drawing(alphabet, character, drawer)).save(data, "PNG")
                    member = (
                        f"{name}/{alphabet}/character{character:02d}/00{character}_{drawer:02d}"
                    )
                    archive.writestr(f"{member}.png", data.getvalue())


@pytest.fixture
def root(tmp_path):
    write_archive(tmp_path, "images_background", BACKGROUND)
    write_archive(tmp_path, "images_evaluation", EVALUATION)
    return tmp_path


@pytest.mark.parametrize(
    ("partition", "split", "alphabets"),
    [
        ("vinyals", "train", ["Angelic", "Balinese", "Tifinagh"]),
        ("vinyals", "val", ["Armenian"]),
        ("vinyals", "test", ["Kannada"]),
        ("lake", "train", ["Armenian", "Balinese"]),
        ("lake", "val", ["Tifinagh"]),
        ("lake", "test", ["Angelic", "Kannada"]),
    ],
)
def test_each_split_holds_its_alphabets(root, partition, split, alphabets):
    data = Omniglot(split, str(root), partition=partition)
    assert data.classes == [f"{a}/character{c:02d}" for a in alphabets for c in (1, 2)]
    assert data.tensors[1].tolist() == [c for c in range(2 * len(alphabets)) for _ in range(3)]


def test_images_are_inverted_resized_and_in_the_order_of_y(root):
    data = Omniglot("train", str(root))
    x, y = data.tensors
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
    keys = [
        (a, c, d) for a in ("Angelic", "Balinese", "Tifinagh") for c in (1, 2) for d in (1, 2, 3)
    ]
    for image, key in zip(x.numpy(), keys, strict=True):
        grey = (
            Image.fromarray(drawing(*key)).convert("L").resize((28, 28), Image.Resampling.LANCZOS)
        )
        assert np.array_equal(image[0], 255 - np.asarray(grey))
    assert x.max() == 255
    assert x.float().mean() < 20  # ink bright on a dark ground


def test_image_size_105_is_the_original(root):
    x, _ = Omniglot("val", str(root), image_size=105).tensors
    assert np.array_equal(x[0, 0].numpy(), 255 - 255 * drawing("Armenian", 1, 1).astype(np.uint8))


def test_rotations_are_classes_of_their_own(root):
    plain, rotated = Omniglot("val", str(root)), Omniglot("val", str(root), rotations=True)
    n, way = len(plain), len(plain.classes)
    assert len(rotated) == 4 * n
    assert len(rotated.classes) == 4 * way
    for turns in range(4):
        rows = slice(turns * n, (turns + 1) * n)
        expected = np.rot90(plain.tensors[0].numpy(), turns, axes=(2, 3))
        assert np.array_equal(rotated.tensors[0][rows].numpy(), expected)
        assert torch.equal(rotated.tensors[1][rows], plain.tensors[1] + turns * way)
    assert rotated.classes[way] == "Armenian/character01/rot090"


def test_a_split_reads_only_the_archive_it_needs(root):
    (root / "images_evaluation.zip").unlink()
    assert len(Omniglot("val", str(root))) == 6
    with pytest.raises(FileNotFoundError, match=r"images_evaluation.zip is not in .*download=True"):
        Omniglot("test", str(root))


def test_a_truncated_archive_is_named_in_one_line(root):
    path = root / "images_background.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        ValueError, match=r"images_background.zip is broken \(.*\): delete"
    ) as error:
        Omniglot("val", str(root))
    assert "\n" not in str(error.value)


def test_an_archive_with_a_flipped_byte_is_refused(root):
    path = root / "images_background.zip"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 10] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="is broken"):
        Omniglot("val", str(root))


def test_archives_without_the_split_are_refused(tmp_path):
    write_archive(tmp_path, "images_background", ["Balinese"])
    with pytest.raises(ValueError, match="no image of the split 'val'"):
        Omniglot("val", str(tmp_path))


def test_download_fetches_a_missing_archive_and_keeps_one_that_is_there(
    root, tmp_path, monkeypatch
):
    archive = root / "images_background.zip"
    monkeypatch.setitem(MD5, archive.stem, hashlib.md5(archive.read_bytes()).hexdigest())
    target = tmp_path / "new" / "folder"
    data = Omniglot("val", str(target), download=True, url=f"{root.as_uri()}/")
    assert len(data) == 6
    assert [path.name for path in target.iterdir()] == ["images_background.zip"]
    assert len(Omniglot("val", str(target), download=True, url="file:///nowhere")) == 6


def test_a_download_with_another_md5_leaves_nothing_behind(root, tmp_path):
    target = tmp_path / "new"
    with pytest.raises(RuntimeError, match=f"should have {MD5['images_background']}"):
        Omniglot("val", str(target), download=True, url=root.as_uri())
    assert list(target.iterdir()) == []


def test_a_download_that_fails_names_the_address(tmp_path):
    with pytest.raises(RuntimeError, match=r"file:///nowhere/a\.zip could not be fetched"):
        download_file("file:///nowhere/a.zip", tmp_path / "a.zip", "0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"split": "valid"}, {"partition": "miniimagenet"}])
def test_unknown_names_are_refused(root, arguments):
    with pytest.raises(ValueError, match="is unknown: use"):
        Omniglot(**{"split": "val", "root": str(root), **arguments})


@needs_archives
def test_the_real_characters_split_into_1028_172_and_423():
    counts = {"train": 0, "val": 0, "test": 0}
    lake = {"train": 0, "val": 0, "test": 0}
    characters = set()
    for name in MD5:
        with zipfile.ZipFile(REAL / f"{name}.zip") as archive:
            found = {"/".join(m.split("/")[1:3]) for m in archive.namelist() if m.endswith("png")}
        characters |= found
        for character in found:
            counts[split_of(character, name == "images_evaluation", "vinyals")] += 1
            lake[split_of(character, name == "images_evaluation", "lake")] += 1
    assert counts == {"train": 1028, "val": 172, "test": 423}
    assert lake == {"train": 813, "val": 151, "test": 659}
    table = REAL / "vinyals_split.csv"
    if table.is_file():
        with table.open() as file:
            published = {row["character"]: row["split"] for row in csv.DictReader(file)}
        assert published == {c: split_of(c, False, "vinyals") for c in characters}


@needs_archives
def test_the_real_val_split_has_20_drawings_a_character():
    data = Omniglot("val", str(REAL))
    x, y = data.tensors
    assert x.shape == (3440, 1, 28, 28)
    assert torch.equal(torch.bincount(y), torch.full((172,), 20))
    assert 5 < x.float().mean() < 40
