"""Good configurations, small, and the files that they read."""

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SMALL = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
DEVELOP = [*SMALL, "--trainer.fast_dev_run", "true"]
SHORT = [*SMALL, "--trainer.max_steps", "3"]
SINUSOIDS = """
model:
  class_path: MetaLearner
  init_args:
    learner:
      class_path: MAML
      init_args:
        network: {class_path: MLP, init_args: {in_features: 1, hidden: 8, out_features: 1}}
        inner_loop: {class_path: GradientDescent, init_args: {lr: 0.01}}
        inner_loss: torch.nn.MSELoss
    loss: torch.nn.MSELoss
    metric: MeanSquaredError
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.001}}
    lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 10}}
data:
  class_path: EpisodeDataModule
  init_args:
    tasks: {class_path: SinusoidTasks, init_args: {shot: 5, query_shot: 5}}
    meta_batch_size: 2
    episodes_per_epoch: 12
    val_episodes: 4
    test_episodes: 4
checkpoint: {monitor: val/mean_squared_error, mode: min}
trainer:
  accelerator: cpu
  max_epochs: 1
  log_every_n_steps: 1
  num_sanity_val_steps: 0
"""
DIGITS = """
model:
  class_path: MetaLearner
  init_args:
    learner:
      class_path: Prototypes
      init_args:
        network: {class_path: MLP, init_args: {in_features: 64, hidden: 16, out_features: 8}}
    loss: torch.nn.CrossEntropyLoss
    metric: Accuracy
data:
  class_path: EpisodeDataModule
  init_args:
    dataset: Digits
    tasks: {class_path: LabelTasks, init_args: {way: 5, shot: 1, query_shot: 5}}
    meta_batch_size: 2
    episodes_per_epoch: 12
    val_episodes: 4
trainer: {accelerator: cpu, max_epochs: 1}
"""
# these need weights of another run, a folder of photographs, or take minutes
LEFT_OUT = {"omniglot_cactus", "segmentation", "clusterer", "similarity", "omniglot_protoclr"}


class Base(NamedTuple):
    """A good configuration, as text, with the options that make it small."""

    name: str
    text: str
    options: list[str]


def make_files(folder: Path) -> None:
    """Write the data that good configurations need, and files that are wrong for all."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 10))
    names = ",".join("abcdefghij")
    np.savetxt(folder / "table.csv", rows, delimiter=",", header=names, comments="")
    (folder / "empty.csv").write_text("")
    (folder / "binary.csv").write_bytes(random.bytes(999))
    (folder / "text.csv").write_text("a,b\nred,1\nblue,2\n")
    (folder / "names.csv").write_text("a,b\n")
    (folder / "images").mkdir()
    for number in range(40):
        image = Image.fromarray(random.integers(0, 255, (30, 30), np.uint8))
        image.save(folder / "images" / f"{number}.png")
    for name, alphabets in (("background", ["Balinese", "Armenian"]), ("evaluation", ["Kannada"])):
        with zipfile.ZipFile(folder / f"images_{name}.zip", "w") as archive:
            for alphabet in alphabets:
                for character, drawer in np.ndindex(6, 6):
                    stream = io.BytesIO()
                    Image.fromarray(random.random((105, 105)) < 0.5).save(stream, "PNG")
                    path = f"{alphabet}/character{character + 1:02d}/0001_{drawer + 1:02d}.png"
                    archive.writestr(f"images_{name}/{path}", stream.getvalue())


def bases() -> list[Base]:
    """The good configurations: those of the tests, thrice, and all of `configs/`."""
    known = [Base("sinusoids of the tests", SINUSOIDS, SHORT)] * 3
    known += [Base("digits", DIGITS, SHORT)] * 3
    for file in sorted((ROOT / "configs").rglob("*.yaml")):
        if file.stem in LEFT_OUT:
            continue
        options = DEVELOP
        if file.stem == "detector":  # whose real tables are not here
            options = [*options, "--data.init_args.tasks=AnomalyTasks"]
        elif file.stem.startswith("detector_"):
            options = [*options, "--data.init_args.tasks.init_args.tasks=AnomalyTasks"]
        elif file.stem == "images_umtra":
            options = [*options, "--data.init_args.dataset.init_args.root=images"]
        elif file.stem.startswith("omniglot"):
            options = [*options, "--data.init_args.dataset.init_args.root=."]
            if file.stem == "omniglot_clustering":
                options = [*options, "--data.init_args.tasks.init_args.way=20"]
        known.append(Base(file.stem, file.read_text(), options))
    return known
