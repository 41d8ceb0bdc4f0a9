"""ImageFolder and read_images: layouts, pixels and bad files."""

import numpy as np
import pytest
import torch
from PIL import Image

from metalit.datasets import ImageFolder, read_images


def save(path, value, size=(6, 6), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def test_subfolders_are_the_classes(tmp_path):
    for value, name in enumerate(["cat/b.png", "ant/a.jpg", "ant/deep/c.PNG", "bee/d.bmp"]):
        save(tmp_path / name, 10 * value)
    images, labels, names = read_images(str(tmp_path), image_size=4)
    assert names == ["ant/a.jpg", "ant/deep/c.PNG", "bee/d.bmp", "cat/b.png"]
    assert labels == ["ant", "ant", "bee", "cat"]
    assert images.shape == (4, 1, 4, 4)
    assert images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [10, 20, 30, 0]


def test_a_flat_folder_has_no_labels_and_hidden_and_other_files_are_left_out(tmp_path):
    for name in ["b.gif", "a.webp", "._a.png", ".cache/a.png"]:
        save(tmp_path / name, 7)
    (tmp_path / "notes.txt").touch()
    _, labels, names = read_images(str(tmp_path), image_size=4)
    assert labels is None
    assert names == ["a.webp", "b.gif"]
    assert len(ImageFolder("train", str(tmp_path / "."), 4, fractions=(1.0, 0.0, 0.0)).tensors) == 1


def test_images_are_scaled_to_the_shorter_side_and_cropped_at_the_centre(tmp_path):
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 2:6] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_images(str(tmp_path), image_size=4)[0] == 200).all()


def test_invert_swaps_dark_and_bright(tmp_path):
    save(tmp_path / "a.png", 30)
    assert (read_images(str(tmp_path), 4, invert=True)[0] == 225).all()


def test_colour_has_three_channels_and_grey_one(tmp_path):
    save(tmp_path / "a.png", (10, 20, 30), mode="RGB")
    images, _, _ = read_images(str(tmp_path), 4, channels=3)
    assert images[0, :, 0, 0].tolist() == [10, 20, 30]
    grey, _, _ = read_images(str(tmp_path), 4, channels=1)
    assert grey[0, 0, 0, 0] == round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)


def test_transparent_pixels_become_white(tmp_path):
    save(tmp_path / "a.png", (0, 0, 0, 0), mode="RGBA")
    assert (read_images(str(tmp_path), 4)[0] == 255).all()


def test_sixteen_bit_greys_are_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)).save(tmp_path / "a.png")
    assert (read_images(str(tmp_path), 4)[0] == 100).all()


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_images(str(tmp_path), 4)[0][0, 0], pixels[::-1])


def test_folders_named_after_the_splits_are_the_splits(tmp_path):
    for value, name in enumerate(["train/x/0.png", "val/y/1.png", "val/z/2.png", "train/x/3.png"]):
        save(tmp_path / name, value)
    train, val = (ImageFolder(split, str(tmp_path), 6) for split in ("train", "val"))
    assert train.tensors[0][:, 0, 0, 0].tolist() == [0, 3]
    assert (train.classes, val.classes) == (["x"], ["y", "z"])
    assert val.tensors[1].tolist() == [0, 1]
    assert val.tensors[0].dtype == torch.uint8
    with pytest.raises(FileNotFoundError, match=r"test is not a folder"):
        ImageFolder("test", str(tmp_path), 6)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus", "car"):
        save(tmp_path / name / "0.png", 1)
    classes = [ImageFolder(split, str(tmp_path), 6).classes for split in ("train", "val", "test")]
    assert sorted(name for part in classes for name in part) == ["bus", "car", "train"]


def test_unlabelled_images_beside_class_folders_are_trained_on(tmp_path):
    for i in range(12):
        save(tmp_path / f"{i:02d}.png", i)
    for i, name in enumerate("abcde"):
        save(tmp_path / name / "0.png", 100 + i)
    splits = [ImageFolder(split, str(tmp_path), 6) for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [15, 1, 1]
    assert splits[0].tensors[1].tolist().count(-1) == 12
    for split in splits:
        for image, label, name in zip(*split.tensors, split.names, strict=True):
            value = image[0, 0, 0].item()
            expected = "abcde"[value - 100] + "/0.png" if value >= 100 else f"{value:02d}.png"
            assert name == expected
            assert label == (split.classes.index(name[0]) if value >= 100 else -1)


def test_the_random_split_gives_every_image_to_one_split(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i}.png", i)
    names = [
        ImageFolder(split, str(tmp_path), 4, seed=1).names for split in ("train", "val", "test")
    ]
    assert [len(part) for part in names] == [14, 3, 3]
    assert len({name for part in names for name in part}) == 20
    assert names[1] != ImageFolder("val", str(tmp_path), 4, seed=2).names


def test_a_broken_image_is_named_in_one_line(tmp_path):
    path = save(tmp_path / "a" / "bad.png", 1, size=(60, 60))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"bad.png cannot be read as an image .*: repair") as error:
        read_images(str(tmp_path), 4)
    assert "\n" not in str(error.value)
    path.write_text("no image at all")
    with pytest.raises(ValueError, match=r"bad\.png cannot be read"):
        read_images(str(tmp_path), 4)


@pytest.mark.parametrize(
    ("split", "arguments", "message"),
    [
        ("all", {}, "'all' is unknown"),
        ("val", {"image_size": 0}, "image_size=0"),
        ("val", {"channels": 4}, "channels=4"),
        ("val", {"by": "name"}, "by='name'"),
        ("val", {"fractions": (0.0, 0.5, 0.5)}, "something for train"),
        ("val", {}, "holds no image"),
    ],
)
def test_bad_arguments_and_empty_folders_are_refused(tmp_path, split, arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(split, str(tmp_path), **{"image_size": 4, **arguments})
