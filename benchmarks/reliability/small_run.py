"""A run that takes seconds: what the measurements of checkpoints damage, attack and change."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CONFIG = """
model:
  class_path: MetaLearner
  init_args:
    learner:
      class_path: MAML
      init_args:
        network: {class_path: MLP, init_args: {in_features: 2, hidden: 8, out_features: 2}}
        inner_loop: {class_path: GradientDescent, init_args: {lr: 0.1}}
        inner_loss: torch.nn.CrossEntropyLoss
    loss: torch.nn.CrossEntropyLoss
    metric: Accuracy
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
data:
  class_path: EpisodeDataModule
  init_args:
    tasks: {class_path: LabelTasks, init_args: {way: 2, shot: 2, query_shot: 3}}
    dataset: {class_path: Arrays, init_args: {path: points.npz, by: row}}
    meta_batch_size: 2
    episodes_per_epoch: 8
    val_episodes: 4
    test_episodes: 4
trainer:
  accelerator: cpu
  max_epochs: 2
  val_check_interval: 2
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  num_sanity_val_steps: 0
  default_root_dir: runs
"""


def write_files(folder: Path, config: str = CONFIG) -> None:
    """Write the data and `config.yaml`."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    y = np.arange(600) % 6
    x = (generator.normal(size=(600, 2)) + y[:, None]).astype("f4")
    np.savez(folder / "points.npz", x=x, y=y)
    (folder / "config.yaml").write_text(config)


def make_run(folder: Path) -> Path:
    """Train in a folder, and return the last checkpoint."""
    from metalit.main import main

    write_files(folder)
    with contextlib.chdir(folder), quiet():
        main(["fit", "--config", "config.yaml"])
    return folder / "runs/version_0/checkpoints/last.ckpt"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Write nothing to the terminal."""
    logging.disable()
    try:
        with Path(os.devnull).open("w") as nothing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(nothing):
                yield
    finally:
        logging.disable(logging.NOTSET)
