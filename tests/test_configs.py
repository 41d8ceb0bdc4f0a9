"""Every YAML under configs/ runs: fit, then test, through the command line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metalit.main import main

PREDICT_ONLY = {"segmentation"}  # has a test in tests/callbacks/test_segmentation_writer.py
TEST_ONLY = {"clusterer"}  # has weights already, and no outer gradient
FILES = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))
CONFIGS = [file for file in FILES if file.stem not in PREDICT_ONLY]
SMALL = ["--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "false"]
SMALL += ["--trainer.enable_model_summary", "false"]


@pytest.fixture
def omniglot(tmp_path):
    """A folder with archives in Omniglot's layout: six characters of six drawers in every split."""
    draw = np.random.default_rng(0)
    alphabets = {
        "images_background": ["Balinese", "Armenian"],
        "images_evaluation": ["Kannada"],
    }
    for name, members in alphabets.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for alphabet in members:
                for character in range(1, 7):
                    for drawer in range(1, 7):
                        image = io.BytesIO()
                        ink = draw.random((105, 105)) < 0.5
                        Image.fromarray(ink).save(image, "PNG")
                        folder = f"{name}/{alphabet}/character{character:02d}"
                        archive.writestr(
                            f"{folder}/{character:04d}_{drawer:02d}.png", image.getvalue()
                        )
    return tmp_path


@pytest.fixture
def images(tmp_path):
    """A folder of unlabelled images."""
    draw = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        Image.fromarray(draw.integers(0, 255, (30, 30), np.uint8)).save(folder / f"{number}.png")
    return folder


def overrides(config, request, tmp_path):
    """What a config needs beside itself, as options: data that do not come with the package."""
    if config.stem == "table_clusters":
        table = tmp_path / "table.csv"
        rows = np.random.default_rng(0).normal(size=(400, 10))
        np.savetxt(table, rows, delimiter=",", header=",".join("abcdefghij"), comments="")
        return [f"--data.init_args.dataset.init_args.path={table}"]
    if config.stem == "detector":  # without the real tables
        return ["--data.init_args.tasks=AnomalyTasks"]
    if config.stem.startswith("detector_"):
        return ["--data.init_args.tasks.init_args.tasks=AnomalyTasks"]
    if config.stem == "images_umtra":
        return [f"--data.init_args.dataset.init_args.root={request.getfixturevalue('images')}"]
    if not config.stem.startswith("omniglot"):
        return []
    root = request.getfixturevalue("omniglot")
    options = [f"--data.init_args.dataset.init_args.root={root}"]
    if config.stem in ("omniglot_clustering", "omniglot_protoclr"):
        options += ["--data.init_args.tasks.init_args.way=20"]  # of the 36 images of a split
    if config.stem == "omniglot_cactus":
        umtra = str(config.with_name("omniglot_umtra.yaml"))
        rest = ["--trainer.max_steps", "1", "--data.init_args.val_episodes", "2"]
        rest += [
            "--trainer.enable_progress_bar",
            "false",
            "--trainer.enable_model_summary",
            "false",
        ]
        rest += ["--trainer.num_sanity_val_steps", "0", "--trainer.val_check_interval", "1"]
        run = main(
            ["fit", "--config", umtra, *options, *rest, f"--trainer.default_root_dir={tmp_path}"]
        )
        tasks = "--data.init_args.tasks.init_args"
        best = run.trainer.checkpoint_callback.best_model_path
        options += [f"{tasks}.clusters=8", f"{tasks}.partitions=2", f"{tasks}.query_shot=1"]
        options += [f"{tasks}.embedding.init_args.checkpoint={best}"]
    return options


def test_there_are_configs():
    assert len(CONFIGS) >= 8
    assert {file.stem for file in FILES} >= PREDICT_ONLY | TEST_ONLY


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_config_fits_and_tests(config, request, tmp_path):
    options = ["--config", str(config), *overrides(config, request, tmp_path), *SMALL]
    if config.stem not in TEST_ONLY:
        fitted = main(["fit", *options])
        assert fitted.trainer.global_step == 1
    tested = main(["test", *options])
    assert f"test/{tested.model.metric.name}" in tested.trainer.callback_metrics


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_config_says_what_it_is_and_logs_to_both_loggers(config):
    text = config.read_text()
    assert text.startswith("# ")
    assert "metalit.loggers.CSV" in text
    assert "metalit.loggers.WandB" in text
