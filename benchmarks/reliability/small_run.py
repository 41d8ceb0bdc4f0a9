"""A run that takes seconds: what the measurements of checkpoints damage, attack and change."""

import contextlib
import os
import warnings
from pathlib import Path

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


def make_run(folder: Path, *more: str) -> Path:
    """Write data and `config.yaml`, train, and return the last checkpoint."""
    import lightning  # noqa: F401 - its log handler keeps the stderr of now
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    y = np.arange(600) % 6
    np.savez(
        folder / "points.npz", x=generator.normal(size=(600, 2)).astype("f4") + y[:, None], y=y
    )
    (folder / "config.yaml").write_text(CONFIG)
    with contextlib.chdir(folder), quiet():
        from metalit.main import main

        main(["fit", "--config", "config.yaml", *more])
    return next(folder.glob("runs/version_0/checkpoints/last.ckpt"))


@contextlib.contextmanager
def quiet():
    """Write nothing to the terminal."""
    with Path(os.devnull).open("w") as nothing, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            yield
