"""The command line: Lightning's CLI, with run folders and one-line errors."""

import logging
import re
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import LightningDataModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.utilities import rank_zero_only

# importing the subpackages lets a class_path in YAML be short
from . import augmentations, callbacks, data, datasets, inner_loops, learners  # noqa: F401
from . import loggers, losses, metrics, networks, tasks  # noqa: F401
from .callbacks import PredictionWriter, RunSummary
from .meta_learner import MetaLearner
from .runs import cut_metrics, find_checkpoint, new_run, run_of

log = logging.getLogger(__name__)


class RunConfig(SaveConfigCallback):
    """Saves the parsed configuration in the run folder and with every logger."""

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ANN401
        """Hand the configuration to the loggers."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(config)


class MetalitCLI(LightningCLI):
    """LightningCLI whose runs are folders `version_n` under `trainer.default_root_dir`.

    `--ckpt_path` takes `last` and `best` of the newest run, or a file. `fit --ckpt_path last` goes
    on in the folder of that run; every other `fit` gets a folder of its own.
    """

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add trainer, model and data; the model may come from a checkpoint instead."""
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.add_lightning_class_args(MetaLearner, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        parser.set_defaults({"trainer.default_root_dir": "runs"})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give every run the checkpoints `last` and `best`."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/accuracy",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.enable_version_counter": False,
            }
        )
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(RunSummary, "summary")

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint; what the user typed beats what it holds."""
        subcommand = self.config.subcommand
        config = self.config[subcommand]
        self.checkpoint: dict[str, Any] = {}
        if config.ckpt_path:
            root = Path(config.trainer.default_root_dir)
            config.ckpt_path = str(find_checkpoint(root, config.ckpt_path))
            config.weights_only = True  # nothing in a checkpoint is ever executed
            self.checkpoint = torch.load(config.ckpt_path, map_location="cpu", weights_only=True)
            saved = {**self.checkpoint.get("hyper_parameters", {})}
            model = {"class_path": saved.pop("_class_path", None), "init_args": saved}
            if config.model is None and model["class_path"]:
                self.config = self.parser.parse_object(
                    {"subcommand": subcommand, subcommand: {"model": model}}, self.config
                )
            else:
                given = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
                _list_differences(model, given[subcommand]["model"])
        elif subcommand != "fit":
            log.warning("No --ckpt_path was given: the model keeps its initial weights.")
        if self.config[subcommand].model is None:
            raise ValueError("there is no model: give one with --config, or a --ckpt_path.")

    def before_instantiate_classes(self) -> None:
        """Choose the run folder and point the loggers at it."""
        config = self.config[self.subcommand]
        if config.trainer.fast_dev_run or rank_zero_only.rank != 0:
            return
        run = run_of(Path(config.ckpt_path)) if config.ckpt_path else None
        going_on = self.subcommand != "fit" or Path(config.ckpt_path or "").name == "last.ckpt"
        if run is None or not going_on:
            run = new_run(Path(config.trainer.default_root_dir))
        elif self.subcommand == "fit":
            cut_metrics(run / "metrics.csv", self.checkpoint["global_step"])
        entries = config.trainer.logger
        for entry in entries if isinstance(entries, list) else []:
            if entry.class_path in ("metalit.loggers.CSV", "metalit.loggers.WandB"):
                entry.init_args.save_dir = str(run)

    def after_instantiate_classes(self) -> None:
        """Let the checkpoints say exactly how the model was configured."""
        self._dump_config()
        model = self.config_dump["model"]
        described = {"_class_path": model["class_path"], **model["init_args"]}
        self.model.save_hyperparameters(described, logger=False)


def main(args: ArgsType = None) -> MetalitCLI:
    """Run the command line; errors are raised, `explain` makes one line of them.

    Args:
        args: Arguments as on the command line, without the program; None means `sys.argv`.
    """
    _show_log()
    strict = {"exit_on_error": False}
    return MetalitCLI(
        MetaLearner,
        LightningDataModule,
        args=args,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        seed_everything_default=0,
        save_config_callback=RunConfig,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={**strict, **{name: strict for name in MetalitCLI.subcommands()}},
    )


def explain(error: BaseException) -> str:
    """Return one line that says what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) or type(error).__name__


def _list_differences(saved: Any, given: Any, name: str = "model") -> None:  # noqa: ANN401
    """Log every value of the model in which the command line departs from the checkpoint."""
    if isinstance(saved, dict) and isinstance(given, dict):
        for key in sorted({*saved, *given}):
            _list_differences(saved.get(key), given.get(key), f"{name}.{key}")
    elif saved != given:
        log.warning("%s is %s in the checkpoint and %s now.", name, saved, given)


def _show_log() -> None:
    """Show metalit's messages on the terminal, once, as plain lines."""
    logger = logging.getLogger("metalit")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
