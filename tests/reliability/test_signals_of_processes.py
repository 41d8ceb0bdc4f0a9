"""One process of two gets the signal, and both leave."""

import os
import signal
import sys
from pathlib import Path

import pytest

from metalit.checkpoints import load_checkpoint

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "reliability"))
import measure_signals

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp"]


@pytest.fixture
def run(tmp_path):
    """A run of two processes in the middle of its first epoch."""
    process = measure_signals.start(tmp_path, *TWO, seconds=0.2)
    measure_signals.wait_for(tmp_path, "rank 1 train 2 ", process)
    yield process
    assert not measure_signals.is_alive(process.pid)


def test_both_processes_save_and_leave_with_the_code_of_the_signal_of_one(run, tmp_path):
    os.kill(run.pid, signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 143, said
    assert said.count("SIGTERM: the run leaves after step") == 1
    checkpoint = load_checkpoint(tmp_path / "runs/version_0/checkpoints/last.ckpt")
    steps = [line.split()[3] for line in (tmp_path / "record.txt").read_text().splitlines()]
    assert sorted(steps, key=int)[-2:] == [str(checkpoint["global_step"])] * 2


WAIT = """
import time
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class Wait(Callback):
    def setup(self, trainer, model, stage):
        with Path("record.txt").open("a") as record:
            record.write(f"rank {trainer.global_rank} waits\\n")
        for _ in range(600):
            time.sleep(0.1)
"""


def test_a_signal_before_the_loop_ends_both_processes(tmp_path):
    (tmp_path / "waiting.py").write_text(WAIT)
    process = measure_signals.start(tmp_path, *TWO, "--trainer.callbacks+=waiting.Wait")
    for rank in range(2):
        measure_signals.wait_for(tmp_path, f"rank {rank} waits", process)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "Error" not in said
    assert not measure_signals.is_alive(process.pid)


@pytest.mark.slow
def test_a_second_interrupt_of_the_first_process_ends_both_at_once(run):
    os.kill(run.pid, signal.SIGINT)
    os.kill(run.pid, signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == 130
