import csv
import os
import signal
import subprocess
import sys

import pytest
import torch

from metalit.main import main

MODULE = '''
import os
import signal

from lightning.pytorch.callbacks import Callback
from torch import nn


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(1, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 1))


class Kill(Callback):
    """Ends the process as a power cut would, before the step of KILL_AT."""

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == int(os.environ.get("KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
'''
CONFIG = """
model:
  init_args:
    learner: {class_path: MAML, init_args: {network: resumed.Net}}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
    lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 5}}
trainer: {max_epochs: 3, val_check_interval: 3, callbacks: [resumed.Kill]}
"""


def killed(args, step, folder):
    """Run the command line until the kernel kills it before a step."""
    environment = {**os.environ, "KILL_AT": str(step)}
    command = [sys.executable, "-m", "metalit", *args]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    for noise in ("Tip:", "LeafSpec", "You're resuming", "Checkpoint directory"):
        assert noise not in done.stdout + done.stderr


def rows(run):
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def assert_equal_states(one, other):
    """Compare two nested states bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal_states(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal_states(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.fixture
def arguments(sinusoids, tmp_path, monkeypatch):
    (tmp_path / "resumed.py").write_text(MODULE)
    (tmp_path / "resumed.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "resumed", raising=False)
    return ["fit", "--config", str(sinusoids), "--config", str(tmp_path / "resumed.yaml")]


def test_a_run_killed_twice_goes_on_bit_for_bit(arguments, tmp_path):
    main([*arguments, "--trainer.default_root_dir", str(tmp_path / "whole")])
    killed(arguments, 8, tmp_path)  # its last checkpoint is of the edge of the epoch, step 6
    often = [*arguments, "--ckpt_path", "last", "--last_checkpoint.every_n_train_steps", "2"]
    killed(often, 11, tmp_path)  # and this one's is of step 10, in the middle of the epoch
    main([*often, "--data.num_workers", "2"])

    assert len(list((tmp_path / "runs").iterdir())) == 1
    whole, resumed = tmp_path / "whole/version_0", tmp_path / "runs/version_0"
    assert len(rows(whole)) == 1 + 18 + 6  # names of the columns, steps, validations
    assert rows(resumed) == rows(whole)  # as text: every digit of every loss
    states = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, resumed)
    ]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert_equal_states(states[1][key], states[0][key])
    # every resumption dropped rows, and the file as it was is kept each time
    assert len(list(resumed.glob("metrics.*.csv"))) == 2
