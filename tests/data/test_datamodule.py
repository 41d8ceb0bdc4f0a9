import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from metalit import Episode, EpisodeDataModule, MetaLearner
from metalit.augmentations import Noise
from metalit.data import MetaBatch
from metalit.datasets import Arrays
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import MeanSquaredError
from metalit.tasks import (
    AugmentationTasks,
    BlobTasks,
    ClassOutTasks,
    Curriculum,
    JointTasks,
    LabelTasks,
    MixedTasks,
    PrincipalTasks,
    SinusoidTasks,
    TableCuts,
)

OFFSETS = {"train": 0.0, "val": 10.0, "test": 20.0}


def labelled(split: str) -> TensorDataset:
    """Twelve samples each of five classes; the values tell the split and the sample."""
    x = OFFSETS[split] + torch.arange(60.0)[:, None] / 100
    return TensorDataset(x, torch.arange(60) % 5)


def unlabelled(split: str) -> TensorDataset:
    return TensorDataset(0.4 + labelled(split).tensors[0][:, None, None] / 100)


class Rows(Dataset[Any]):
    """A map-style data set of (x, y) items that is no TensorDataset."""

    def __init__(self, split: str) -> None:
        self.data = labelled(split)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = self.data[index]
        return x, int(y)


class UnlabelledRows(Rows):
    def __getitem__(self, index: int) -> Tensor:
        return self.data[index][0]


def make_module(**arguments: Any) -> EpisodeDataModule:
    sizes = {"meta_batch_size": 2, "episodes_per_epoch": 4, "val_episodes": 4, "test_episodes": 4}
    given = {"tasks": LabelTasks(3, 1, 2), "dataset": labelled, **sizes, **arguments}
    return EpisodeDataModule(**given)


def tensors(batches: Iterator[MetaBatch]) -> Tensor:
    return torch.cat([batch.episodes.query.x for batch in batches])


@pytest.mark.parametrize("dataset", [labelled, Rows])
def test_each_stage_draws_from_its_own_split(dataset: Any) -> None:
    module = make_module(dataset=dataset)
    module.setup("fit")
    module.setup("test")
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    for loader, offset in zip(loaders, OFFSETS.values(), strict=True):
        values = tensors(loader)
        assert values.min() >= offset
        assert values.max() < offset + 1


def test_setup_fits_only_what_the_stage_needs_and_only_once() -> None:
    made = []

    def dataset(split: str) -> TensorDataset:
        made.append(split)
        return labelled(split)

    module = make_module(dataset=dataset)
    for stage, wanted in (
        ("validate", ["val"]),
        ("fit", ["val", "train"]),
        ("fit", ["val", "train"]),
        ("test", ["val", "train", "test"]),
        ("predict", ["val", "train", "test"]),
    ):
        module.setup(stage)
        assert made == wanted


def test_every_stage_may_have_tasks_of_its_own_and_falls_back_to_the_one_before() -> None:
    one, two, three = (SinusoidTasks(shot=shot) for shot in (1, 2, 3))
    for given, wanted in (
        ({}, (1, 1, 1)),
        ({"val_tasks": two}, (1, 2, 2)),
        ({"test_tasks": three}, (1, 1, 3)),
        ({"val_tasks": two, "test_tasks": three}, (1, 2, 3)),
    ):
        module = make_module(tasks=one, dataset=None, **given)
        module.setup("fit")
        module.setup("test")
        loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
        assert tuple(next(iter(x)).episodes.support.x.shape[1] for x in loaders) == wanted


def test_fitting_leaves_the_tasks_that_were_given_alone() -> None:
    tasks = LabelTasks(3, 1, 2)
    make_module(tasks=tasks).setup("fit")
    with pytest.raises(RuntimeError, match="LabelTasks has no data"):
        tasks.sample(torch.Generator())


def test_validation_and_test_see_the_same_episodes_each_time_whatever_was_trained() -> None:
    module, other = make_module(), make_module()
    for each in (module, other):
        each.setup("fit")
        each.setup("test")
    val = module.val_dataloader()
    before = tensors(val)
    list(module.train_dataloader())
    assert torch.equal(tensors(val), before)
    assert torch.equal(tensors(other.val_dataloader()), before)
    assert torch.equal(tensors(module.test_dataloader()), tensors(other.test_dataloader()))


def test_another_seed_gives_other_episodes() -> None:
    first, second = make_module(seed=0), make_module(seed=1)
    for module in (first, second):
        module.setup("fit")
    assert not torch.equal(tensors(first.train_dataloader()), tensors(second.train_dataloader()))
    assert not torch.equal(tensors(first.val_dataloader()), tensors(second.val_dataloader()))


@pytest.mark.parametrize("dataset", [unlabelled, UnlabelledRows])
def test_data_without_labels_serve_unsupervised_tasks(dataset: Any) -> None:
    tasks = AugmentationTasks(3, 1, 1, Noise(0.1))
    module = make_module(tasks=tasks, dataset=dataset)
    module.setup("fit")
    assert len(tensors(module.train_dataloader())) == 4
    assert torch.equal(module.inputs("train"), module.inputs("train"))
    assert len(module.inputs("val")) == 60


def test_data_without_labels_are_refused_by_tasks_that_need_them() -> None:
    with pytest.raises(ValueError, match="LabelTasks got no labels"):
        make_module(dataset=unlabelled).setup("fit")


WITH_DATA_OF_THEIR_OWN = {
    "TableCuts": lambda made: TableCuts([made]),
    "ClassOutTasks": lambda made: ClassOutTasks([made], rows=10, n_query=10),
    "MixedTasks": lambda made: MixedTasks([BlobTasks(6, 6), TableCuts([made])]),
    "Curriculum": lambda made: Curriculum(BlobTasks(6, 6), TableCuts([made]), 9),
    "JointTasks": lambda made: JointTasks(TableCuts([made])),
    "PrincipalTasks": lambda made: PrincipalTasks(TableCuts([made])),
}


@pytest.mark.parametrize("dataset", [None, labelled])
@pytest.mark.parametrize("name", WITH_DATA_OF_THEIR_OWN)
def test_data_that_tasks_read_themselves_may_not_change_before_a_run_goes_on(
    name: str, dataset: Any, tmp_path: Path
) -> None:
    file = tmp_path / "table.npz"
    y = torch.arange(200) % 2
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) + 9 * y[:, None]

    def start(x: Tensor) -> EpisodeDataModule:
        np.savez(file, x=x.numpy(), y=y.numpy())
        tasks = WITH_DATA_OF_THEIR_OWN[name](partial(Arrays, path=str(file), by="row"))
        module = EpisodeDataModule(tasks, dataset)
        module.trainer = Trainer(logger=False, accelerator="cpu")
        module.trainer.state.fn = TrainerFn.FITTING
        module.setup("fit")
        return module

    saved = start(x).state_dict()
    again = start(x)
    again.load_state_dict(saved)
    assert again.state_dict() == saved
    x += 1
    other = start(x)
    with pytest.raises(ValueError, match="the train and val data are not those of the run so far"):
        other.load_state_dict(saved)
    other.data_may_change = True
    other.load_state_dict(saved)


def test_a_run_goes_on_with_its_own_labels_alone_but_is_evaluated_on_any() -> None:
    def relabelled(split: str) -> TensorDataset:
        x, y = labelled(split).tensors
        return TensorDataset(x, (y + 1) % 5)

    def start(stage: TrainerFn, **arguments: Any) -> EpisodeDataModule:
        module = make_module(**arguments)
        module.trainer = Trainer(logger=False, accelerator="cpu")
        module.trainer.state.fn = stage
        module.setup("fit")
        return module

    saved = start(TrainerFn.FITTING).state_dict()
    none = start(TrainerFn.FITTING, tasks=SinusoidTasks(), dataset=None).state_dict()
    for state, dataset in ((saved, relabelled), (none, labelled)):
        with pytest.raises(ValueError, match="the train and val data are not those of the run"):
            start(TrainerFn.FITTING, dataset=dataset).load_state_dict(state)
        start(TrainerFn.VALIDATING, dataset=dataset).load_state_dict(state)


def test_values_that_are_not_finite_are_refused() -> None:
    def dataset(split: str) -> TensorDataset:
        return TensorDataset(torch.full((60, 1), torch.nan), torch.arange(60) % 5)

    with pytest.raises(ValueError, match="60 of 60 samples hold NaN"):
        make_module(dataset=dataset).setup("fit")


def test_inputs_of_synthetic_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="set dataset"):
        make_module(tasks=SinusoidTasks(), dataset=None).inputs("train")


def test_the_last_meta_batch_of_an_evaluation_may_be_shorter() -> None:
    module = make_module(val_episodes=3)
    module.setup("validate")
    assert [len(batch.seeds) for batch in module.val_dataloader()] == [2, 1]


def test_each_episode_is_transformed_by_its_own_seed_after_the_transfer() -> None:
    module = make_module(tasks=AugmentationTasks(3, 1, 1, Noise(0.05)), dataset=unlabelled)
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    found = module.on_after_batch_transfer(batch, 0)
    assert isinstance(found, Episode)
    assert torch.equal(found.support.x, batch.episodes.support.x)
    noise = found.query.x - batch.episodes.query.x
    assert not torch.allclose(noise[0], noise[1])
    for place in range(2):
        one = module.train_dataloader().dataset
        alone = module.on_after_batch_transfer(one.meta_batch([place]), 0)
        assert torch.equal(alone.query.x[0], found.query.x[place])


class RecordingMetaLearner(MetaLearner):
    """Keeps the support inputs of every training step."""

    def training_step(self, episodes: Episode, batch_idx: int) -> Tensor:
        self.seen = [*getattr(self, "seen", []), episodes.support.x]
        return super().training_step(episodes, batch_idx)


def train(module: EpisodeDataModule, folder: Path, epochs: int = 2) -> Tensor:
    maml = MAML(nn.Linear(1, 1), GradientDescent(lr=0.01), nn.MSELoss())
    model = RecordingMetaLearner(maml, nn.MSELoss(), MeanSquaredError())
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, module)
    return torch.cat(model.seen)


def test_two_epochs_with_persistent_workers_give_new_episodes_the_same_as_without(
    tmp_path: Path,
) -> None:
    seen = [
        train(make_module(tasks=SinusoidTasks(), dataset=None, num_workers=workers), tmp_path)
        for workers in (0, 1)
    ]
    assert torch.equal(*seen)
    assert len(seen[0]) == 8
    assert len(seen[0].unique(dim=0)) == 8


def test_longer_epochs_see_the_same_episodes_in_the_same_order(tmp_path: Path) -> None:
    modules = [
        make_module(tasks=SinusoidTasks(), dataset=None, episodes_per_epoch=size) for size in (4, 8)
    ]
    short, long = train(modules[0], tmp_path, epochs=2), train(modules[1], tmp_path, epochs=1)
    assert torch.equal(short, long)


def test_a_task_that_cannot_be_drawn_ends_a_worker_with_its_one_line() -> None:
    tasks = BlobTasks(6, 6, way=3, maker_args={"centers": 2}, max_tries=2)
    module = make_module(tasks=tasks, dataset=None, num_workers=1)
    module.setup("fit")
    with pytest.raises(ValueError, match="2 tables of make_blobs"):
        next(iter(module.train_dataloader()))


def test_the_workers_of_all_loaders_end_with_an_error():
    data = EpisodeDataModule(SinusoidTasks(5), num_workers=1)
    data.setup("fit")
    loaders = [data.train_dataloader(), data.val_dataloader()]
    iterators = [iter(loader) for loader in loaders]
    workers = [worker for iterator in iterators for worker in iterator._workers]
    assert [next(iterator).stage for iterator in iterators] == ["train", "val"]
    assert all(worker.is_alive() for worker in workers)
    data.on_exception(ValueError("something"))
    assert not any(worker.is_alive() for worker in workers)


def test_a_process_with_open_loaders_ends_at_once():
    code = """
from metalit import EpisodeDataModule
from metalit.tasks import SinusoidTasks
data = EpisodeDataModule(SinusoidTasks(5), num_workers=1)
data.setup("fit")
loader = data.train_dataloader()
first = next(iter(loader))
print("done", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"done\n"
        process.wait(timeout=10)  # a worker that is told to end by a signal stays for 20 s
    assert process.returncode == 0
