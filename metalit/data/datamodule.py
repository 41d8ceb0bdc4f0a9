"""The Lightning data module that yields meta-batches of episodes."""

import atexit
import os
import signal
import weakref
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

import torch
from lightning import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.combined_loader import _shutdown_workers_and_reset_iterator
from torch import Tensor
from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader, Dataset

from ..checkpoints import differences, log_changes, refuse_changes
from ..datasets.fingerprint import fingerprint
from ..datasets.tensors import as_tensors
from ..episodes import Episode
from ..hyperparameters import UndescribableError, describe
from ..signals import ignore_in_worker
from ..tasks import TaskDistribution
from .episode_dataset import EpisodeDataset, MetaBatch
from .sampler import MetaBatchSampler

ALLOW = "give --allow_changes true, which in Python is data_may_change"
"""How to go on with other data or episodes."""


class EpisodeDataModule(LightningDataModule):
    """Yields meta-batches of episodes, drawn by number from distributions over tasks.

    Episode i of a stage depends on `(seed, stage, i)` alone: not on workers, ranks, restarts or
    on what was drawn before. Training goes on counting where a checkpoint left off; validation and
    test see the same episodes each time, so that two models are compared on equal tasks.

    Args:
        dataset: Makes the data of a split: called with "train", "val" and "test". None for tasks
            that need no data (blobs, sinusoids).
        tasks: Tasks to train on.
        val_tasks: Tasks to validate on, fitted to the "val" split; like `tasks` if None.
        test_tasks: Tasks to test on, fitted to the "test" split; like `val_tasks` if None.
        meta_batch_size: Episodes of one outer step, over all processes.
        episodes_per_epoch: Training episodes between two validations, over all processes.
        val_episodes: Validation episodes, over all processes.
        test_episodes: Test episodes, over all processes; the field reports 600 or more.
        num_workers: Worker processes of each loader; 0 builds episodes in the main process.
            Look-ups (`LabelTasks`, `ClusterTasks`, `AugmentationTasks`) take less time than
            handing their episodes over from a worker. Workers help where tasks compute, as those
            that fit a teacher do (milliseconds an episode), and a core is idle;
            `benchmarks/profiling.py CONFIG` says how long data are waited for with and without.
        seed: Seed of all episodes.

    Attributes:
        data_may_change: Whether a resumed run may go on with other data or other episodes than
            those that its checkpoint was made with, which is refused else.

    Raises:
        ValueError: If `seed` or `num_workers` is negative, the data hold NaN or infinity, or the
            tasks do not fit the data.

    Example:
        >>> from metalit.tasks import SinusoidTasks
        >>> data = EpisodeDataModule(tasks=SinusoidTasks(shot=5), meta_batch_size=2)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).episodes.support.x.shape
        torch.Size([2, 5, 1])
    """

    def __init__(
        self,
        tasks: TaskDistribution,
        dataset: Callable[[str], Dataset[Any]] | None = None,
        val_tasks: TaskDistribution | None = None,
        test_tasks: TaskDistribution | None = None,
        meta_batch_size: int = 4,
        episodes_per_epoch: int = 1000,
        val_episodes: int = 200,
        test_episodes: int = 600,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("seed", seed), ("num_workers", num_workers)):
            if value < 0:
                raise ValueError(f"data.{name}={value} must be 0 or more: raise it.")
        self.dataset = dataset
        self.tasks = tasks
        self.val_tasks = val_tasks
        self.test_tasks = test_tasks
        self.meta_batch_size = meta_batch_size
        self.episodes_per_epoch = episodes_per_epoch
        self.val_episodes = val_episodes
        self.test_episodes = test_episodes
        self.num_workers = num_workers
        self.seed = seed
        self.data_may_change = False
        self._fitted: dict[str, TaskDistribution] = {}
        self._fingerprints: dict[str, str] = {}
        self._loaders: dict[str, weakref.ref[DataLoader[Episode]]] = {}

    def setup(self, stage: str) -> None:
        """Fit the tasks of the stages that `stage` needs, once a process."""
        val_tasks = self.val_tasks or self.tasks
        wanted = {"train": self.tasks, "val": val_tasks, "test": self.test_tasks or val_tasks}
        splits = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split in splits.get(stage, ()):
            if split not in self._fitted:
                self._fitted[split] = self._fit(deepcopy(wanted[split]), split)
        if self.trainer is not None:
            # MetaBatchSampler splits every meta-batch over the processes; with the default of
            # use_distributed_sampler Lightning would try to split it once more, and fail
            self.trainer._accelerator_connector.use_distributed_sampler = False

    def train_dataloader(self) -> DataLoader[Episode]:
        """Return the loader of training episodes, from the meta-batch that is next."""
        return self._loader("train", self.episodes_per_epoch, self._batches_done, limit=False)

    def val_dataloader(self) -> DataLoader[Episode]:
        """Return the loader of validation episodes, the same each time."""
        return self._loader("val", self.val_episodes)

    def test_dataloader(self) -> DataLoader[Episode]:
        """Return the loader of test episodes, the same each time."""
        return self._loader("test", self.test_episodes)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move the episodes; Lightning's own would walk through every seed, on the CPU too."""
        if batch.episodes.support.x.device == device:
            return batch
        moved = super().transfer_batch_to_device(batch.episodes, device, dataloader_idx)
        return batch._replace(episodes=moved)

    def on_after_batch_transfer(self, batch: MetaBatch, dataloader_idx: int) -> Episode:
        """Transform the episodes on the device, each with a generator of its own."""
        tasks = self._fitted[batch.stage]
        if type(tasks).transform is TaskDistribution.transform:  # no need of generators
            return batch.episodes
        generators = [torch.Generator().manual_seed(seed) for seed in batch.seeds]
        return tasks.transform(batch.episodes, generators)

    def on_exception(self, exception: BaseException) -> None:
        """End the workers of all loaders; Lightning ends those of the loop that runs alone."""
        for loader in self._loaders.values():
            _end_workers(loader)

    def inputs(self, split: str) -> Tensor:
        """Return the inputs of a split without labels, of shape `(N, *features)`."""
        if self.dataset is None:
            raise ValueError(
                "the tasks are synthetic and have no inputs of their own: set dataset."
            )
        return as_tensors(self.dataset(split))[0]

    def state_dict(self) -> dict[str, Any]:
        """Return the fingerprints of the data, by split, and what the episodes depend on."""
        return {"fingerprints": dict(self._fingerprints), "episodes": self._description()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with other data or episodes than before.

        Raises:
            ValueError: If they have changed, unless they may.
        """
        if self.data_may_change or not self._is_training():
            return
        saved = state_dict["fingerprints"]
        changed = [split for split, now in self._fingerprints.items() if saved.get(split) != now]
        if changed:
            raise ValueError(
                f"the {' and '.join(changed)} data are not those of the run so far (their SHA-256 "
                f"is another): restore them, start a new run, or {ALLOW}."
            )
        before, now = state_dict.get("episodes", {}), self._description()
        both = before.keys() & now.keys()
        changes = differences(
            "data", *({name: each[name] for name in both} for each in (before, now))
        )
        log_changes(changes)
        refuse_changes(changes, False, ALLOW)

    def _description(self) -> dict[str, Any]:
        """Return what training and validation episodes depend on, as far as it can be said."""
        names = ("tasks", "val_tasks", "meta_batch_size", "episodes_per_epoch", "val_episodes")
        described = {}
        for name in (*names, "seed"):
            with suppress(UndescribableError):
                described[name] = describe(getattr(self, name))
        return described

    def _is_training(self) -> bool:
        return self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING

    def _fit(self, tasks: TaskDistribution, split: str) -> TaskDistribution:
        found = []
        if self.dataset is not None:
            x, y = as_tensors(self.dataset(split))
            found.append(fingerprint(x, y))
            tasks = tasks.fit(x, y)
        found += tasks.fingerprints()
        if found:
            self._fingerprints[split] = " ".join(found)
        return tasks

    def _loader(
        self,
        stage: str,
        episodes: int,
        start: Callable[[], int] = lambda: 0,
        limit: bool = True,
    ) -> DataLoader[Episode]:
        rank, world_size = (
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        )
        dataset = EpisodeDataset(self._fitted[stage], self.seed, stage, episodes)
        loader = DataLoader(
            dataset,
            batch_sampler=MetaBatchSampler(
                episodes, self.meta_batch_size, rank, world_size, start, limit
            ),
            num_workers=self.num_workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=ignore_in_worker,
        )
        if self.num_workers:
            self._loaders[stage] = weakref.ref(loader)
            atexit.register(_end_workers, self._loaders[stage])
        return loader

    def _batches_done(self) -> int:
        # total.processed, not a counter of ours: it is restored before iter() is called on resume,
        # and it is already up to date when ModelCheckpoint saves in on_train_batch_end
        if self.trainer is None:
            return 0
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return int(progress.processed)


def _end_workers(reference: "weakref.ref[DataLoader[Episode]]") -> None:
    """End the workers of a loader, which ignore the signal that a process sends when it exits."""
    loader = reference()
    iterator: Any = getattr(loader, "_iterator", None)
    if iterator is None:
        return
    workers = [worker for worker in iterator._workers if worker.is_alive()]
    for worker in workers:
        os.kill(worker.pid, signal.SIGALRM)  # see `ignore_in_worker`
    for worker in workers:
        worker.join(0.5)
        if worker.is_alive():  # in the middle of something; its end is no error of the loader's
            _remove_worker_pids(id(iterator))
            iterator._worker_pids_set = False
            worker.kill()
    _shutdown_workers_and_reset_iterator(loader)


def _as_it_is(batch: Any) -> Any:
    """The data set stacks its episodes itself."""
    return batch
