"""The command line: Lightning's CLI, with run folders and one-line errors."""

import logging
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, Callback, ModelCheckpoint
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

# importing the subpackages lets a class_path in YAML be short
from . import (  # noqa: F401 - imported for their names alone
    augmentations,
    callbacks,
    data,
    datasets,
    inner_loops,
    learners,
    losses,
    metrics,
    networks,
    tasks,
)
from .callbacks import LastCheckpoint, RunSummary
from .checkpoints import (
    GivenSettings,
    SafeCheckpointIO,
    changed_arguments,
    differences,
    log_changes,
    open_checkpoint,
    refuse_changes,
    refuse_foreign_code,
    refuse_schedule_changes,
    refuse_weights_alone,
    run_differences,
    set_aside,
)
from .config_files import check_configs, refuse_nothing
from .data import EpisodeDataModule, MetaBatchSampler
from .loggers import CSV, RunLogger, WandB
from .messages import calm, explain, log_on_terminal
from .meta_learner import MetaLearner
from .run_lock import RunLock
from .runs import (
    CHECKPOINTS,
    METRICS,
    cut_metrics,
    find_checkpoint,
    new_run,
    newest_run,
    run_of,
    save_config,
    short,
    write_whole,
)
from .signals import StopSignals

__all__ = ["explain", "main"]

log = logging.getLogger(__name__)

CALLBACKS: dict[str, type[Callback]] = {
    "checkpoint": ModelCheckpoint,
    "last_checkpoint": LastCheckpoint,
}


class RunConfig(SaveConfigCallback):
    """Saves the parsed configuration as `config.yaml`; `test` writes `test.yaml`, and so on.

    Checkpoints hold it too, with what a resumed run needs to go on in the folder of the run.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Ask for the run folder on every rank, since that broadcasts; only rank 0 saves."""
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)
        self._loggers = trainer.loggers
        self._text = self.parser.dump(self.config, skip_unset=False)  # takes a while
        super().setup(trainer, pl_module, stage)

    def state_dict(self) -> dict[str, Any]:
        """Return the configuration as YAML, rows of `metrics.csv` and the id of the W&B run."""
        rows = [logger.rows for logger in self._loggers if isinstance(logger, CSV)]
        ids = [logger.run_id for logger in self._loggers if isinstance(logger, WandB)]
        return {
            "config": self._text,
            "rows": rows[0] if rows else None,
            "wandb": ids[0] if ids else None,
        }

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it into the run folder, and hand that of `fit` to the loggers."""
        if stage == "fit":
            save_config(self._folder / "config.yaml", self._text)
            for logger in trainer.loggers:
                logger.log_hyperparams(yaml.safe_load(self._text))
        else:
            file = self._folder / f"{TrainerFn(stage).value}.yaml"
            try:
                write_whole(file, self._text)
            except OSError as error:  # what is found is shown all the same
                log.warning("%s cannot be written (%s): make room.", short(file), error.strerror)


class MetalitCLI(LightningCLI):
    """LightningCLI whose runs are folders `version_n` under `trainer.default_root_dir`.

    `--ckpt_path` takes `last` and `best` of the newest run, or a file. `fit --ckpt_path last` goes
    on in the folder of that run, and so does `auto` where there is one; every other `fit` gets a
    folder of its own. The other commands write into the folder of the run that their checkpoint
    comes from.

    Args:
        args: Arguments as on the command line, without the program; None means `sys.argv`.
    """

    run: Path | None = None
    _lock: RunLock | None = None

    def __init__(self, args: ArgsType = None) -> None:
        self.checkpoint: dict[str, Any] = {}
        self.going_on = self.anew = False
        self.optimizer_settings: dict[str, Any] = {}
        self.changed_arguments: dict[str, set[str]] = {}
        strict = {"exit_on_error": False, "allow_abbrev": False}
        try:
            super().__init__(
                MetaLearner,
                LightningDataModule,
                args=args,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                seed_everything_default=0,
                save_config_callback=RunConfig,
                save_config_kwargs={"save_to_log_dir": False},
                parser_kwargs={**strict, **{name: strict for name in self.subcommands()}},
            )
        finally:
            if self._lock is not None:
                self._lock.release()
            if self.run is not None:
                with suppress(OSError):  # a folder with something in it stays
                    self.run.rmdir()

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add trainer, model and data; the model may come from a checkpoint instead."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.add_lightning_class_args(MetaLearner, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        parser.set_defaults({"trainer.default_root_dir": "runs"})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give every run the checkpoints `best` and `last`."""
        for key, kind in CALLBACKS.items():
            parser.add_lightning_class_args(kind, key)
        parser.set_defaults(
            {
                "checkpoint.filename": "best",
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.enable_version_counter": False,
                "checkpoint.monitor": "val/accuracy",
                "checkpoint.mode": "max",
            }
        )
        parser.add_argument(
            "--allow_changes",
            type=bool,
            default=False,
            help="Let a resumed run go on with another model or other episodes than before.",
        )
        parser.add_lightning_class_args(
            BasePredictionWriter, "predictions", subclass_mode=True, required=False
        )
        parser.set_defaults({"predictions": {"class_path": "metalit.callbacks.PredictionWriter"}})
        parser.add_lightning_class_args(RunSummary, "summary")

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint; what the user typed beats what it holds."""
        command = self.config.subcommand
        config = self.config[command]
        asked = config.ckpt_path
        file = find_checkpoint(Path(config.trainer.default_root_dir), asked) if asked else None
        config.ckpt_path = None
        if file is not None:
            self.going_on = command == "fit" and asked in ("last", "auto")
            if self.going_on:
                self._hold(run_of(file))  # before it is read: nobody writes another one from now on
            file, self.checkpoint = open_checkpoint(file)
            config.ckpt_path = str(file)
            config.weights_only = True  # nothing in a checkpoint is ever executed
            if command == "fit":
                refuse_weights_alone(self.checkpoint, file)
            self._compare(config)
            # without weights and optimizer, which would stay in memory as long as the run
            kept = {"callbacks": {"RunConfig": self._run_state()}}
            self.checkpoint = {"global_step": self.checkpoint.get("global_step", 0), **kept}
            # others save nothing, and of a run of `fit` all that differs was listed
            if command != "fit" or self._run_state():
                warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
        elif command == "fit" and asked:
            root = Path(config.trainer.default_root_dir)
            newest = newest_run(root)
            if newest is not None and _is_first_process():
                RunLock(newest).release()  # it may be about to save its first checkpoint
            log.info("There is nothing to go on with in %s: a new run begins.", short(root))
        elif command != "fit":
            log.warning("No --ckpt_path was given: the model keeps its initial weights.")
        if self.config[command].model is None:
            raise ValueError("there is no model: give one with --config, or a --ckpt_path.")

    def _compare(self, config: Any) -> None:
        """Take the model from the checkpoint if none was given, else list all differences."""
        command, given = self.config.subcommand, config.model
        saved = {**self.checkpoint.get("hyper_parameters", {})}
        own = None if given is None else self._primitives(self.config)
        model = {"class_path": saved.pop("_class_path", "metalit.MetaLearner"), "init_args": saved}
        described = None
        try:
            refuse_foreign_code(model, config.ckpt_path, own)
            described = self.parser.parse_object(
                {"subcommand": command, command: {"model": model}}, self.config.clone()
            )
        except (ArgumentError, ValueError):  # compared word for word, and nothing is built of it
            if given is None:
                raise
        if given is None:
            self.config = described
        now = self._primitives(self.config)
        before = {**now, "model": model} if described is None else self._primitives(described)
        run = self._run_state().get("config")
        if command == "fit" and run is not None:
            so_far = {**yaml.safe_load(run), "model": before["model"]}
            changes = run_differences(so_far, now)
            self.changed_arguments = changed_arguments(so_far, now)
        else:
            changes = differences("model", before["model"], now["model"])
            if command == "fit":
                log.warning("The checkpoint is of no run of `fit`: its model alone is compared.")
        log_changes(changes)
        if command != "fit":
            return
        self.anew = bool(changes) or not self.going_on
        refuse_changes(changes, config.allow_changes)
        if any(each["model"]["init_args"].get("lr_scheduler") for each in (before, now)):
            refuse_schedule_changes(changes)
        self.optimizer_settings = {
            name.rpartition(".")[2]: value
            for name, (_, value) in changes.items()
            if name.startswith("model.optimizer.")
        }

    def _primitives(self, config: Any) -> dict[str, Any]:
        """Return the configuration of the command as JSON primitives."""
        text = self.parser.dump(config, skip_unset=False)
        primitives: dict[str, Any] = yaml.safe_load(text)[config.subcommand]
        return primitives

    def before_instantiate_classes(self) -> None:
        """Choose the run folder."""
        config = self.config[self.subcommand]
        refuse_nothing(config, {"trainer": Trainer, **CALLBACKS})
        for name, usual in (("dirpath", None), ("filename", "last")):
            if config.last_checkpoint[name] != usual:
                raise ValueError(
                    f"last_checkpoint.{name} is {config.last_checkpoint[name]!r} but --ckpt_path "
                    "finds last.ckpt in run folders alone: give trainer.default_root_dir instead."
                )
        if config.trainer.fast_dev_run or not _is_first_process():
            return
        run = run_of(Path(config.ckpt_path)) if config.ckpt_path else None
        if run is None or (self.subcommand == "fit" and not self.going_on):
            run = self.run = new_run(Path(config.trainer.default_root_dir))
            self._hold(run)
        elif self.going_on:
            set_aside(Path(config.ckpt_path))
            step = self.checkpoint["global_step"]
            log.info("Going on with %s after step %d.", short(run), step)
            cut_metrics(run / METRICS, step, self._run_state().get("rows"))
        else:
            scores = run / f"{self.subcommand}.csv"
            if scores.exists():
                scores.unlink()
        self.run = run

    def _hold(self, run: Path | None) -> None:
        """Let nobody else train in a run folder until the command has ended."""
        if run is not None and _is_first_process():
            self._lock = RunLock(run)

    def _run_state(self) -> dict[str, Any]:
        """Return what `RunConfig` put into the checkpoint."""
        state: dict[str, Any] = self.checkpoint.get("callbacks", {}).get("RunConfig", {})
        return state

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, and let all it writes go into the run folder."""
        given = self._get(self.config_init, "trainer").logger
        loggers = [CSV()] if given in (None, True) else given or []
        loggers = loggers if isinstance(loggers, list) else [loggers]
        if self.run is not None:
            for logger in loggers:
                if isinstance(logger, RunLogger):
                    logger.write_to(self.run, str(self.subcommand))
                if isinstance(logger, WandB) and self.going_on:
                    logger.resume(self._run_state().get("wandb"))
            for key in CALLBACKS:
                checkpoint = self._get(self.config_init, key)
                checkpoint.dirpath = checkpoint.dirpath or str(self.run.absolute() / CHECKPOINTS)
            kwargs["default_root_dir"] = str(self.run)
        trainer = super().instantiate_trainer(logger=loggers, **kwargs)
        plugins = self._get(self.config_init, "trainer").plugins
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            trainer.strategy.checkpoint_io = SafeCheckpointIO()
        if self.checkpoint and self.subcommand == "fit":
            callbacks = trainer.callbacks  # type: ignore[attr-defined] # set where mypy is blind
            given = self.optimizer_settings, self.changed_arguments, self.anew
            callbacks.insert(0, GivenSettings(*given))
        return trainer

    def after_instantiate_classes(self) -> None:
        """Let the checkpoints say how the model was configured, and check what can be by now."""
        model = self._primitives(self.config)["model"]
        described = {"_class_path": model["class_path"], **model.get("init_args", {})}
        self.model.save_hyperparameters(described, logger=False)
        launcher = self.trainer.strategy.launcher
        if isinstance(launcher, _MultiProcessingLauncher):
            raise ValueError(
                f"trainer.strategy starts its processes by {launcher._start_method}, and signals "
                "and errors would not pass between them and the first one: take ddp."
            )
        self.model.model_may_change = True  # as far as `_compare` has not refused it by now
        if isinstance(self.datamodule, EpisodeDataModule):
            self.datamodule.data_may_change = self._get(self.config_init, "allow_changes")
            if self.subcommand == "predict":
                raise ValueError(
                    "predict answers for data of your own but got EpisodeDataModule: give --data "
                    "SupportQuery --data.support FILE --data.query FILE."
                )
            if self.subcommand == "fit":  # here, before there are several processes to complain
                MetaBatchSampler(
                    self.datamodule.episodes_per_epoch,
                    self.datamodule.meta_batch_size,
                    world_size=self.trainer.world_size,
                )


def _is_first_process() -> bool:
    rank: int = rank_zero_only.rank  # type: ignore[attr-defined] # of a function: Lightning sets it
    return rank == 0


def main(args: ArgsType = None) -> MetalitCLI:
    """Run the command line; errors are raised, `explain` makes one line of them.

    Args:
        args: Arguments as on the command line, without the program; None means `sys.argv`.
    """
    calm()
    signals = StopSignals()
    signals.listen()  # what is told before the loops begin ends the process at once
    try:
        with log_on_terminal():
            if args is None or isinstance(args, list):
                check_configs(sys.argv[1:] if args is None else args)
            return MetalitCLI(args)
    finally:
        signals.ignore()
