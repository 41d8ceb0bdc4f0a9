"""What the tests of the command line share."""

import importlib
import inspect
import logging
import pkgutil
from collections.abc import Callable

import lightning  # noqa: F401 - its log handler keeps the stderr of now, not one of capsys
import pytest

import metalit
from metalit.__main__ import run

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
data:
  class_path: EpisodeDataModule
  init_args:
    tasks: {class_path: SinusoidTasks, init_args: {shot: 5}}
    meta_batch_size: 2
    episodes_per_epoch: 12
    val_episodes: 4
    test_episodes: 4
checkpoint: {monitor: val/mean_squared_error, mode: min}
trainer:
  accelerator: cpu
  max_epochs: 1
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  num_sanity_val_steps: 0
"""
DIGITS = """
model:
  init_args:
    learner: {class_path: MAML, init_args: {network: {class_path: MLP, init_args: {in_features: 64,
      hidden: 4, out_features: 5}}, inner_loss: torch.nn.CrossEntropyLoss}}
    loss: torch.nn.CrossEntropyLoss
    metric: Accuracy
data: {init_args: {dataset: Digits, tasks: {class_path: LabelTasks, init_args: {way: 5}}}}
checkpoint: {monitor: val/accuracy}
"""


@pytest.fixture(autouse=True)
def command_line(monkeypatch):
    """Hide pytest's own arguments, which LightningCLI would warn of, and keep W&B quiet."""
    monkeypatch.setattr("sys.argv", ["metalit"])
    monkeypatch.setenv("WANDB_MODE", "disabled")
    # what another test, or a fixture of a module, has left of the log is not for this one
    monkeypatch.setattr(logging.root.manager, "disable", logging.NOTSET)
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("metalit") and isinstance(logger, logging.Logger):
            for key, value in (("handlers", []), ("propagate", True), ("disabled", False)):
                monkeypatch.setattr(logger, key, value)
            monkeypatch.setattr(logger, "level", logging.NOTSET)
            logger.manager._clear_cache()


@pytest.fixture
def sinusoids(tmp_path):
    """A config that trains for 6 steps an epoch; its runs go to `tmp_path / "runs"`."""
    file = tmp_path / "sinusoids.yaml"
    file.write_text(f"{SINUSOIDS}  default_root_dir: {tmp_path / 'runs'}\n")
    return file


@pytest.fixture
def digits(tmp_path):
    """A part of a config: five-way classification of digits, to be laid over `sinusoids`."""
    file = tmp_path / "digits.yaml"
    file.write_text(DIGITS)
    return file


@pytest.fixture
def last_line(monkeypatch, capsys) -> Callable[[list[str]], str]:
    """Run a command that is wrong, and return the line that its user sees at the end."""

    def end(arguments: list[str]) -> str:
        monkeypatch.setattr("sys.argv", ["metalit", *arguments])
        with pytest.raises(SystemExit) as ended:
            run()
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.count("metalit: error: ") == 1
        last = said.splitlines()[-1]
        assert last.startswith("metalit: error: ")
        assert len(last) < 500
        return last

    return end


@pytest.fixture(scope="session")
def concrete_classes() -> Callable[[type], set[str]]:
    """Names of the final classes of metalit below a contract, wherever in the package they are."""
    for module in pkgutil.walk_packages(metalit.__path__, "metalit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def find(base: type) -> set[str]:
        below, names = list(base.__subclasses__()), set()
        while below:
            found = below.pop()
            below += found.__subclasses__()
            if found.__module__.startswith("metalit.") and not inspect.isabstract(found):
                names.add(found.__name__)
        return names

    return find
