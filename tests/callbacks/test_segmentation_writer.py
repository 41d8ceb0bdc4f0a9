"""The maps that `predict` writes: two textures found through the command line, and their files."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from metalit.callbacks import SegmentationWriter
from metalit.callbacks.segmentation_writer import _by_size, _palette
from metalit.main import main

CONFIG = Path(__file__).parents[2] / "configs" / "segmentation.yaml"
KMEANS = """
model:
  class_path: MetaLearner
  init_args:
    learner:
      class_path: SklearnClusterer
      init_args: {estimator: sklearn.cluster.KMeans, n_clusters: 2}
    loss: torch.nn.NLLLoss
    metric: AdjustedRand
data: {class_path: ImagePatches, init_args: {patch_size: 5, image_size: 60}}
predictions: SegmentationWriter
trainer: {accelerator: cpu}
"""


@pytest.fixture
def textures(tmp_path):
    """A folder with one image, green stripes on the left and red noise on the right, and which."""
    draw = np.random.default_rng(0)
    truth = np.zeros((48, 80), dtype=int)
    truth[:, 48:] = 1
    grey = np.where(truth == 0, np.tile([0.4, 0.6], (48, 40)), draw.uniform(0.2, 0.8, truth.shape))
    color = np.where(truth[..., None] == 0, [0.7, 1.0, 0.7], [1.0, 0.7, 0.7])
    pixels = 255 * (grey[..., None] * color + draw.normal(0, 0.02, (48, 80, 3)))
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "textures.png")
    return folder, truth


@pytest.fixture
def k_means(tmp_path):
    """A config that segments by k-means alone."""
    file = tmp_path / "k_means.yaml"
    file.write_text(KMEANS)
    return file


def predict(config, folder, source, *options):
    arguments = ["--data.init_args.source", str(source), "--trainer.enable_progress_bar", "false"]
    arguments += ["--trainer.default_root_dir", str(folder / "runs")]
    main(["predict", "--config", str(config), *arguments, *options])
    return folder / "runs" / "version_0" / "segmentation"


def test_the_config_finds_two_textures(textures, tmp_path, capsys):
    folder, truth = textures
    learner = "--model.init_args.learner.init_args"
    options = [f"{learner}.n_clusters", "2", f"{learner}.learner.init_args.network.way", "2"]
    out = predict(CONFIG, tmp_path, folder, *options, "--data.init_args.support_patches", "600")
    found = np.asarray(Image.open(out / "textures.regions.png"))
    assert adjusted_rand_score(truth.ravel(), found.ravel()) > 0.9
    assert f"1 images in regions: {out}" in capsys.readouterr().out


def test_the_files_hold_the_regions_of_the_outputs(textures, k_means, tmp_path):
    folder, truth = textures
    out = predict(k_means, tmp_path, folder, "--predictions.init_args.opacity", "0.25")
    names = ["textures.overlay.png", "textures.regions.csv", "textures.regions.png"]
    assert sorted(file.name for file in out.iterdir()) == names
    picture = Image.open(out / "textures.regions.png")
    regions, image = np.asarray(picture), np.asarray(Image.open(folder / "textures.png"))
    assert regions.shape == truth.shape  # that of the image, not of the 60 pixels that were cut
    assert adjusted_rand_score(truth.ravel(), regions.ravel()) > 0.8
    assert (regions == 0).sum() > (regions == 1).sum() > 0

    palette = _palette(2)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), palette[regions])
    overlay = np.asarray(Image.open(out / "textures.overlay.png")).astype(int)
    inside = np.ones(regions.shape, dtype=bool)
    inside[:, :-1] &= regions[:, :-1] == regions[:, 1:]
    inside[:-1] &= regions[:-1] == regions[1:]
    blend = 0.75 * image + 0.25 * palette[regions]
    assert abs(overlay - blend)[inside].max() <= 0.5
    assert (overlay[~inside] == 255).all()

    with (out / "textures.regions.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    for region, row in enumerate(table):
        rows, columns = np.nonzero(regions == region)
        expected = [region, len(rows), len(rows) / regions.size, rows.mean(), columns.mean()]
        expected += image[rows, columns].mean(0).tolist()
        np.testing.assert_allclose([float(value) for value in row.values()], expected, atol=0.005)
    assert len(table) == 2


def test_a_folder_of_the_users_gets_three_files_an_image(textures, k_means, tmp_path):
    folder, _ = textures
    (folder / "more").mkdir()
    Image.open(folder / "textures.png").transpose(Image.Transpose.ROTATE_90).save(
        folder / "more" / "turned.png"
    )
    out = tmp_path / "maps"
    predict(k_means, tmp_path, folder, "--predictions.init_args.folder", str(out))
    found = {str(file.relative_to(out)) for file in out.rglob("*.png")}
    kinds = ("regions", "overlay")
    stems = ("textures", "more/turned")
    assert found == {f"{stem}.{kind}.png" for stem in stems for kind in kinds}
    shapes = [np.asarray(Image.open(out / f"{stem}.overlay.png")).shape for stem in stems]
    assert shapes == [(48, 80, 3), (80, 48, 3)]


def test_regions_are_numbered_by_size():
    outputs = torch.eye(4)[torch.tensor([3, 3, 3, 1, 1, 0])]
    assert _by_size(outputs).tolist() == [0, 0, 0, 1, 1, 2]


def test_every_region_has_a_color_of_its_own():
    assert len(np.unique(_palette(256), axis=0)) == 256


def test_more_regions_than_a_map_holds_are_refused():
    with pytest.raises(ValueError, match="300 outputs but a label map holds 256 regions"):
        _by_size(torch.zeros(1, 300))


def test_an_opacity_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"opacity=1\.5 should be from 0"):
        SegmentationWriter(opacity=1.5)


def test_a_writer_refuses_data_that_are_not_its_own(textures, k_means, tmp_path):
    folder, _ = textures
    expected = "PredictionWriter writes a row a sample of SupportQuery but got ImagePatches"
    with pytest.raises(ValueError, match=expected):
        predict(k_means, tmp_path, folder, "--predictions", "PredictionWriter")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,4\n5,7\n")
    table = str(tmp_path / "table.csv")
    options = ["--data", "SupportQuery", "--data.support", table, "--data.query", table]
    options += ["--trainer.default_root_dir", str(tmp_path / "runs")]
    with pytest.raises(ValueError, match="writes maps of images but got SupportQuery"):
        main(["predict", "--config", str(k_means), *options])
