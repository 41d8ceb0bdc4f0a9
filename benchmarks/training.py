"""What the benchmarks share: configs meta-trained in this process, the commit, where results go."""

import subprocess
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def commit() -> str:
    """Return the commit, with a mark where the working tree differs from it."""
    return subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def call(command: str, config: str, *options: str) -> tuple[Any, float]:
    """Run `python -m metalit COMMAND --config CONFIG`; return its CLI object and the seconds."""
    from metalit.main import main as metalit  # here, since not all who want the commit train

    sys.argv = [sys.argv[0]]  # Lightning reads it beside the arguments given to it
    begin = time.perf_counter()
    run = metalit([command, "--config", config, *options])
    return run, time.perf_counter() - begin


def meta_train(config: str, *options: str) -> tuple[Any, Any, float]:
    """Meta-train a config of this repository and leave no folder behind.

    Returns:
        The `MetaLearner` with the best weights, the data module and the seconds it took.
    """
    from metalit import MetaLearner

    with tempfile.TemporaryDirectory() as folder:
        first = ["--trainer.default_root_dir", folder, "--trainer.enable_progress_bar", "false"]
        run, seconds = call("fit", str(ROOT / config), *first, *options)
        model = MetaLearner.load_from_checkpoint(run.trainer.checkpoint_callback.best_model_path)
    return model, run.datamodule, seconds


def untrained(model: Any, seed: int) -> Any:
    """Return the learner of a `MetaLearner` as it was before training, with random weights."""
    import torch

    from metalit import MetaLearner
    from metalit.hyperparameters import build_arguments

    torch.manual_seed(seed)
    description = deepcopy(model.description()["learner"])
    return build_arguments(MetaLearner, {"learner": description})["learner"]
