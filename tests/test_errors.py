import os
import subprocess
import sys

import pytest

from metalit.__main__ import run

CSV = "a,b\n" + "1,2\n3,4\n" * 4
MODULE = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(1, 4), nn.BatchNorm2d(4), nn.Linear(4, 1))
class Wrong:
    pass
"""
NAN = "{class_path: Arrays, init_args: {path: nan.csv}}"
ABSENT = "{class_path: Arrays, init_args: {path: absent.csv}}"
NETWORK = "--model.learner.network"
CASES = {
    "unknown key in YAML": (
        "--config key.yaml",
        "trainer.max_epoch is no option: did you mean max_epochs?",
    ),
    "unknown nested key in YAML": (
        "--config nested.yaml",
        "data.tasks.shots is no option: did you mean shot?",
    ),
    "unknown option": ("--nonsense 3", "--nonsense is no option: `python -m metalit fit --help`"),
    "abbreviated option": ("--trainer.max_epoch 3", "did you mean max_epochs?"),
    "unknown nested option": (
        "--model.learner.inner_loop.rate 3",
        "model.learner.inner_loop.rate is no option: GradientDescent takes lr, steps, eval_steps",
    ),
    "missing config": ("--config absent.yaml", "absent.yaml, which does not exist: correct"),
    "no YAML": ("--config broken.yaml", "the configuration is no YAML"),
    "missing data": (f"--data.dataset {ABSENT}", "absent.csv does not exist: correct the path."),
    "misspelt class": (
        "--data.tasks SinusoidTask",
        "is no class that fits there: did you mean Sinus",
    ),
    "class of another kind": (
        "--data.tasks MLP",
        "data.tasks is 'MLP', which is no class that fits",
    ),
    "foreign class of another kind": (
        f"{NETWORK} user_errors.Wrong",
        "does not correspond to a subclass of Module: correct",
    ),
    "absent class": (f"{NETWORK} user_errors.Nothing", "has no attribute 'Nothing': correct"),
    "absent module": (
        f"{NETWORK} nowhere.Net",
        "needs the module 'nowhere', which cannot be found",
    ),
    "missing argument": (f"{NETWORK} Conv4", "model.learner.network lacks in_channels, way, image"),
    "type": ("--trainer.max_epochs many", "trainer.max_epochs is 'many' but int or None is needed"),
    "nested type": ("--data.tasks.shot five", "data.tasks.shot is 'five' but int is needed"),
    "inner learning rate": (
        "--model.learner.inner_loop.lr -1",
        "lr=-1.0 of the inner loop must be",
    ),
    "batch norm": (f"{NETWORK} user_errors.Net", "1 (BatchNorm2d) keeps running statistics"),
    "features": (f"{NETWORK}.in_features 3", "MLP cannot take samples of shape (1,)"),
    "meta-batch": (
        "--data.meta_batch_size 5",
        "12 episodes an epoch are not a multiple of meta_batch",
    ),
    "devices": ("--trainer.devices 3", "meta_batch_size=2 cannot be split evenly over 3 process"),
    "accelerator": ("--trainer.accelerator none", "accelerator"),
    "monitor": (
        "--checkpoint.monitor val/accuracy",
        "checkpoint.monitor is 'val/accuracy' but the run logs train/loss",
    ),
    "no run": ("--ckpt_path last", "no run in 'runs' has a checkpoint 'last': run `fit` first"),
    "no checkpoint": ("--ckpt_path x.ckpt", "there is no checkpoint 'x.ckpt': give the path"),
    "no such file": (
        "--ckpt_path key.yaml",
        "key.yaml is no checkpoint, or a damaged one (it does not end as one): give another.",
    ),
    "format": ("--predictions.file a.xls", "file='a.xls' has no known format: choose .csv"),
    "few samples": (
        "--config digits.yaml --data.tasks.query_shot 500",
        "class 2 has 142 samples but shot + query_shot = 505: lower query_shot or drop the class.",
    ),
    "way": (
        "--config digits.yaml --data.tasks.way 50",
        "the data have 5 classes but way = 50: lower way or give more classes.",
    ),
    "NaN": (
        f"--config digits.yaml --data.dataset {NAN}",
        "1 values of nan.csv are NaN or infinite, the first in row 8 (counted from 0), column 'b'",
    ),
    "outputs": (
        f"--config digits.yaml {NETWORK}.out_features 3",
        "MLP returns 3 outputs but the episode has way=5",
    ),
    "worker": (
        "--data.tasks user_tasks.Failing --data.num_workers 1",
        "task 0 has no anomaly: draw more rows.",
    ),
}
TASKS = """
from metalit.tasks import TaskDistribution
class Failing(TaskDistribution):
    def sample(self, generator):
        raise ValueError("task 0 has no anomaly: draw more rows.")
"""


@pytest.fixture
def folder(sinusoids, digits, tmp_path, monkeypatch):
    texts = {
        "key.yaml": "trainer: {max_epoch: 3}\n",
        "nested.yaml": "data: {init_args: {tasks: {init_args: {shots: 1}}}}\n",
        "broken.yaml": "model: {a: [1\n",
        "nan.csv": CSV + "5,\n",
        "user_errors.py": MODULE,
        "user_tasks.py": TASKS,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_with_one_line(case, folder, last_line):
    typed, expected = CASES[case]
    option, *values = typed.split(" --")
    split = [part.split(" ", 1) for part in (option, *(f"--{value}" for value in values))]
    arguments = [word for part in split for word in part]
    base = ["fit", "--config", "sinusoids.yaml", "--trainer.default_root_dir", "runs"]
    said = last_line([*base, *arguments])
    assert expected in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train"], "there is no command 'train': choose fit, validate, test or predict."),
        (["fit"], "there is no data: give it with --config FILE or --data CLASS."),
        (["test"], "there is no data: give it with --config FILE or --data CLASS."),
        (["test", "--data", "SupportQuery"], "data lacks support, query: give SupportQuery"),
        (
            ["fit", "--data", "SupportQuery", "--data.support", "a.csv", "--data.query", "b.csv"],
            "there is no model: give one with --config, or a --ckpt_path.",
        ),
        (
            ["predict", "--config", "sinusoids.yaml"],
            "predict answers for data of your own but got EpisodeDataModule: give --data Support",
        ),
    ],
)
def test_an_incomplete_command_is_answered_with_what_it_lacks(
    arguments, expected, folder, last_line
):
    assert expected in last_line(arguments)


def test_a_checkpoint_of_another_network_is_named(folder, last_line, monkeypatch):
    monkeypatch.setattr("sys.argv", ["metalit", "fit", "--config", "sinusoids.yaml"])
    run()
    arguments = ["test", "--config", "sinusoids.yaml", "--ckpt_path", "last"]
    said = last_line([*arguments, f"{NETWORK}.hidden", "9"])
    assert "the checkpoint does not fit the model (size mismatch for learner.network" in said


def test_an_error_of_ours_is_named_with_the_way_to_its_traceback(folder, last_line):
    (folder / "user_bug.py").write_text(
        TASKS.replace("raise ValueError", "raise KeyError").replace("task 0", "bug")
    )
    arguments = ["fit", "--config", "sinusoids.yaml", "--data.tasks", "user_bug.Failing"]
    said = last_line(arguments)
    assert "KeyError: " in said
    assert "(METALIT_DEBUG=1 shows where)" in said


def test_debug_shows_the_traceback(folder, monkeypatch):
    arguments = ["metalit", "fit", "--config", "absent.yaml"]
    monkeypatch.setenv("METALIT_DEBUG", "0")  # so that it is put back
    monkeypatch.setattr("sys.argv", [*arguments, "--debug"])
    with pytest.raises(Exception, match="File does not exist"):
        run()
    monkeypatch.setenv("METALIT_DEBUG", "1")
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(Exception, match="File does not exist"):
        run()


def test_the_process_ends_with_code_2_and_the_line(folder):
    done = subprocess.run(
        [sys.executable, "-m", "metalit", "fit", "--config", "absent.yaml"],
        env={**os.environ, "METALIT_DEBUG": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("metalit: error: --config names ")
    assert "Traceback" not in done.stderr
