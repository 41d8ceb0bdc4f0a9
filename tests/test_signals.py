import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from metalit import signals
from metalit.checkpoints import load_checkpoint
from metalit.main import main
from metalit.signals import CODES, StopSignals, ignore_in_worker, requeue

CALLBACK = """
import os
import signal

from lightning.pytorch.callbacks import Callback


class Signal(Callback):
    def __init__(self, when: str, number: int = signal.SIGTERM):
        self.when, self.number = when, number

    def at(self, when):
        if when == self.when:
            os.kill(os.getpid(), self.number)

    def setup(self, trainer, model, stage):
        self.at("setup")

    def on_train_batch_end(self, trainer, *_):
        self.at(f"step {trainer.global_step}")

    def on_validation_batch_end(self, trainer, model, outputs, batch, index):
        self.at(f"validation {trainer.global_step} {index}")

    def on_test_batch_end(self, trainer, model, outputs, batch, index):
        self.at(f"test {index}")

    def on_fit_end(self, trainer, model):
        self.at("end")
"""


@pytest.fixture
def arguments(sinusoids, tmp_path, monkeypatch):
    (tmp_path / "signalled.py").write_text(CALLBACK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "signalled", raising=False)
    return ["--config", str(sinusoids)]


def leave(command, arguments, when, number=signal.SIGTERM):
    """Run the command line, which sends itself a signal at some time; return its exit code."""
    callback = f"{{class_path: signalled.Signal, init_args: {{when: {when}, number: {number}}}}}"
    with pytest.raises(SystemExit) as left:
        main([command, *arguments, f"--trainer.callbacks={callback}"])
    return left.value.code


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_run_saves_at_the_end_of_the_step_and_leaves_with_the_code_of_its_signal(
    number, arguments, tmp_path, capfd
):
    assert leave("fit", arguments, "step 4", number) == CODES[number]
    assert load_checkpoint(tmp_path / "runs/version_0/checkpoints/last.ckpt")["global_step"] == 4
    said = capfd.readouterr()
    assert f"{number.name}: leaving at the end of this step" in said.err
    assert f"{number.name}: the run leaves after step 4." in said.out
    last = tmp_path / "runs/version_0/checkpoints/last.ckpt"
    assert f"the same command with --ckpt_path last; in Python, ckpt_path='{last}'\n" in said.out


def test_a_signal_during_validation_does_not_wait_for_its_end(arguments, tmp_path):
    assert leave("fit", arguments, "validation 6 0") == 143
    run = tmp_path / "runs/version_0"
    assert load_checkpoint(run / "checkpoints/last.ckpt")["global_step"] == 6
    assert "val/loss" not in (run / "metrics.csv").read_text()
    main(["fit", *arguments, "--ckpt_path", "last"])
    assert "val/loss" in (run / "metrics.csv").read_text()


@pytest.mark.parametrize("when", ["setup", "end"])
def test_a_signal_before_and_after_the_loops_leaves_at_once(when, arguments):
    assert leave("fit", arguments, when) == 143


def test_a_signal_in_the_validation_before_training_leaves_and_saves_nothing(arguments, tmp_path):
    sanity = ["--trainer.num_sanity_val_steps", "2"]
    assert leave("fit", [*arguments, *sanity], "validation 0 0") == 143
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_a_run_that_was_not_saved_says_so_and_not_how_to_go_on(arguments, monkeypatch, capfd):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metalit.checkpoints.io.write_temporary", fail)
    callback = "{class_path: signalled.Signal, init_args: {when: step 2, number: 15}}"
    with pytest.raises(OSError, match=r"last.ckpt could not be saved .*make room"):
        main(["fit", *arguments, f"--trainer.callbacks={callback}"])
    assert "--ckpt_path last" not in capfd.readouterr().out


def test_a_test_leaves_too(arguments):
    assert leave("test", arguments, "test 0") == 143


@pytest.mark.parametrize(
    ("number", "asked", "queued"),
    [(signal.SIGUSR2, True, True), (signal.SIGUSR2, False, False), (signal.SIGTERM, True, False)],
)
def test_the_signal_that_slurm_was_asked_for_is_heard(
    number, asked, queued, arguments, tmp_path, monkeypatch
):
    jobs = []
    monkeypatch.setattr("metalit.callbacks.last_checkpoint.requeue", lambda: jobs.append(1))
    values = f"{{auto_requeue: {str(asked).lower()}, requeue_signal: SIGUSR2}}"
    path = "lightning.pytorch.plugins.environments.SLURMEnvironment"
    slurm = f"{{class_path: {path}, init_args: {values}}}"
    names = "JOB_ID=7 JOB_NAME=x NTASKS=1 PROCID=0 LOCALID=0 NODEID=0 NNODES=1 NODELIST=localhost"
    for name in names.split():
        monkeypatch.setenv(*f"SLURM_{name}".split("="))
    code = leave("fit", [*arguments, f"--trainer.plugins=[{slurm}]"], "step 2", number)
    assert code == CODES.get(number, 0)
    assert jobs == [1] * queued
    assert load_checkpoint(tmp_path / "runs/version_0/checkpoints/last.ckpt")["global_step"] == 2


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_while_the_packages_are_imported_leaves_at_once(number, sinusoids, tmp_path):
    (tmp_path / "yaml.py").write_text(f"import os\nos.kill(os.getpid(), {number})\n")
    done = subprocess.run(
        [sys.executable, "-m", "metalit", "fit", "--config", str(sinusoids)],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (CODES[number], "", "")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_that_no_signal_would_reach_are_refused(method, sinusoids, tmp_path, last_line):
    options = ["--trainer.devices=2", f"--trainer.strategy=ddp_{method}"]
    said = last_line(["fit", "--config", str(sinusoids), *options])
    assert said.endswith(
        f"trainer.strategy starts its processes by {method}, and signals and errors would not pass "
        "between them and the first one: take ddp."
    )
    assert not list((tmp_path / "runs").iterdir())


def test_the_handlers_of_before_are_put_back(arguments):
    before = {number: signal.getsignal(number) for number in CODES}
    leave("fit", arguments, "step 1")
    main(["fit", *arguments])
    assert {number: signal.getsignal(number) for number in CODES} == before


def test_signals_are_a_flag_while_a_loop_looks_at_it_and_an_exit_else():
    heard = StopSignals()
    heard.listen()
    try:
        with pytest.raises(SystemExit) as left:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert left.value.code == 0
        heard.register_signal_handlers()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # the first one decides
        assert heard.received == signal.SIGTERM
        heard.register_signal_handlers()  # of the next loop
        assert heard.received is None
    finally:
        heard.teardown()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_handlers_that_others_set_later_stay():
    heard, before = StopSignals(), signal.getsignal(signal.SIGUSR1)
    heard.register_signal_handlers()
    heard.teardown()
    try:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        heard.teardown()  # once more, as after an error
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
        heard.listen()  # and no loop looks at the flag
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        heard.ignore()
        signal.signal(signal.SIGUSR1, before)


def test_a_loop_in_a_thread_hears_no_signals_and_goes_on():
    heard = StopSignals()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(heard.register_signal_handlers).result()
        pool.submit(heard.teardown).result()


@pytest.mark.parametrize("sent", ["SIGINT SIGINT", "SIGTERM SIGINT SIGINT"])
def test_a_second_interrupt_leaves_at_once_and_takes_its_children_along(sent):
    code = """
import os, signal, sys
from metalit.signals import StopSignals
heard = StopSignals(abandon=lambda: print("abandoned", flush=True))
heard.register_signal_handlers()
for name in sys.argv[1].split():
    os.kill(os.getpid(), signal.Signals[name])
print("still here", flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, sent], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stdout == "abandoned\n"


def test_a_worker_goes_on_and_leaves_by_itself_where_it_is_lost(monkeypatch):
    monkeypatch.setattr(signals, "_PATIENCE", 1)
    worker = os.fork()
    if worker == 0:
        ignore_in_worker(0)
        while True:
            time.sleep(0.05)
    time.sleep(0.3)
    for number in CODES:
        os.kill(worker, number)
        time.sleep(0.1)
        assert os.waitpid(worker, os.WNOHANG) == (0, 0)
    assert os.waitpid(worker, 0) == (worker, 0)  # an exit code of 0


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"}, "8_3"),
    ],
)
def test_a_slurm_job_is_queued_again(environment, job, tmp_path, monkeypatch):
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    requeue()
    assert (tmp_path / "said").read_text() == f"requeue {job}\n"


@pytest.mark.parametrize("code", [None, 1])
def test_a_slurm_job_that_cannot_be_queued_again_is_named(code, tmp_path, monkeypatch, caplog):
    if code is not None:
        program = tmp_path / "scontrol"
        program.write_text(f"#!/bin/sh\nexit {code}\n")
        program.chmod(0o755)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    requeue()
    assert "SLURM job 7 cannot be queued again" in caplog.text
