"""Patches of images: against slices of the padded image, and maps that come back to its size."""

import numpy as np
import pytest
import torch
from PIL import Image

from metalit.data import ImagePatches


@pytest.fixture
def photos(tmp_path):
    """Two images of different sizes, one in a subfolder."""
    draw = np.random.default_rng(0)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for name, size in (("a.png", (13, 20, 3)), ("more/b.png", (11, 9, 3))):
        Image.fromarray(draw.integers(0, 256, size, np.uint8)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def episodes(data):
    data.setup("predict")
    return list(data.predict_dataloader())


def padded(file, margin):
    pixels = np.asarray(Image.open(file)).astype(np.float32) / 255
    return np.pad(pixels, [(margin, margin), (margin, margin), (0, 0)], mode="reflect")


def test_query_patches_are_slices_around_the_centres_of_the_cells(photos):
    data = ImagePatches(str(photos), patch_size=5, stride=3, colors="rgb")
    first, second = episodes(data)
    assert data.names == ["a", "more/b"]
    whole = padded(photos / "a.png", 2)
    rows, columns = [1, 4, 7, 10, 12], [1, 4, 7, 10, 13, 16, 19]
    slices = [whole[r : r + 5, c : c + 5].transpose(2, 0, 1) for r in rows for c in columns]
    np.testing.assert_allclose(first.query.x[0], np.stack(slices), atol=1e-7)
    assert second.query.x.shape == (1, 4 * 3, 3, 5, 5)
    for part in (*first, *second):
        assert part.y.shape == part.x.shape[:2]
        assert (part.y == -1).all()


def test_support_patches_are_different_patches_of_the_image_and_follow_the_seed(photos):
    def chosen(seed, size=50):
        data = ImagePatches(str(photos), None, 3, support_patches=size, colors="rgb", seed=seed)
        return [episode.support.x[0] for episode in episodes(data)]

    whole = padded(photos / "a.png", 1)
    known = {
        whole[r : r + 3, c : c + 3].transpose(2, 0, 1).tobytes()
        for r in range(13)
        for c in range(20)
    }
    found = {patch.numpy().tobytes() for patch in chosen(0)[0]}
    assert len(found) == 50
    assert found <= known
    assert all(map(torch.equal, chosen(0), chosen(0)))
    assert not torch.equal(chosen(0)[0], chosen(1)[0])
    assert len(chosen(0, size=10**6)[1]) == 99


def test_cielab_is_that_of_the_color_management_and_standardized(photos):
    (episode,) = episodes(ImagePatches(str(photos / "a.png"), patch_size=1, stride=1))
    found = episode.query.x[0].reshape(13, 20, 3)
    np.testing.assert_allclose(found.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((0, 1), correction=0), 1, atol=1e-5)
    pixels = np.asarray(Image.open(photos / "a.png")) / 255
    linear = np.where(pixels > 0.04045, ((pixels + 0.055) / 1.055) ** 2.4, pixels / 12.92)
    # sRGB to XYZ, adapted to the white D50 of ICC profiles (Lindbloom)
    matrix = [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
    xyz = linear @ np.array(matrix).T / [0.9642, 1.0, 0.8249]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    lab = np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )
    expected = (lab - lab.mean((0, 1))) / lab.std((0, 1))
    np.testing.assert_allclose(found, expected, atol=0.05)  # 8 bits a channel


def test_a_grey_image_has_no_hue(tmp_path):
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (12, 12), np.uint8)).save(tmp_path / "grey.png")
    (episode,) = episodes(ImagePatches(str(tmp_path), patch_size=3))
    assert (episode.query.x[:, :, 1:] == 0).all()
    assert episode.query.x[:, :, 0].std() > 0.5


def test_large_images_are_made_smaller_and_maps_brought_back(tmp_path):
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 80:] = 255
    Image.fromarray(image).save(tmp_path / "halves.png")
    data = ImagePatches(str(tmp_path), image_size=50, patch_size=1, stride=2, colors="rgb")
    (episode,) = episodes(data)
    assert episode.query.x.shape == (1, 13 * 25, 3, 1, 1)
    found = data.spread(0, (episode.query.x[0, :, 0, 0, 0] > 0.5).numpy())
    np.testing.assert_array_equal(found, image[..., 0] > 0)


def test_a_map_at_stride_one_is_the_image_itself(photos):
    data = ImagePatches(str(photos / "a.png"), patch_size=3, stride=1, colors="rgb")
    (episode,) = episodes(data)
    values = (255 * episode.query.x[0, :, 1, 1, 1]).round().numpy()
    np.testing.assert_array_equal(data.spread(0, values), np.asarray(data.image(0))[..., 1])


def test_images_that_differ_in_the_suffix_keep_it(photos):
    Image.open(photos / "a.png").save(photos / "a.bmp")
    data = ImagePatches(str(photos))
    data.setup("predict")
    assert data.names == ["a.bmp", "a.png", "more/b"]


def test_without_a_source_it_is_the_sample_images_of_scikit_learn():
    data = ImagePatches(stride=32, image_size=None)
    assert [episode.query.x.shape[1] for episode in episodes(data)] == [14 * 20, 14 * 20]
    assert data.names == ["china", "flower"]
    assert data.image(0).size == (640, 427)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"patch_size": 4}, "patch_size=4 should be odd"),
        ({"stride": 0}, "stride=0 should be at least 1"),
        ({"support_patches": 0}, "support_patches=0 should be at least 1"),
        ({"image_size": 0}, "image_size=0 should be at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        ImagePatches(**arguments)


def test_an_image_smaller_than_half_a_patch_is_refused(photos):
    with pytest.raises(ValueError, match=r"b\.png has 9 x 11 pixels but patch_size=19 needs 10"):
        episodes(ImagePatches(str(photos), patch_size=19))
