import subprocess
import sys

import pytest
import torch
import yaml

import metalit
from metalit import MetaLearner
from metalit.__main__ import run
from metalit.main import main

WITHOUT_TORCH = """
import runpy, sys
sys.argv = ["metalit", {option!r}]
runpy.run_module("metalit", run_name="__main__")
assert "torch" not in sys.modules
assert "lightning" not in sys.modules
"""
LR = "--model.learner.inner_loop.lr"


@pytest.mark.parametrize(("option", "said"), [("--help", "predict"), ("--version", "0.1.0")])
def test_help_and_version_answer_before_torch_is_imported(option, said):
    code = WITHOUT_TORCH.format(option=option)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.parametrize("arguments", [[], ["-h"]])
def test_no_argument_is_answered_with_the_help(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["metalit", *arguments])
    run()
    assert "usage: python -m metalit" in capsys.readouterr().out


def test_the_help_of_fit_names_its_options(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--help"])
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    assert "--trainer.max_epochs" in said
    assert "--predictions CONFIG" in said


def test_the_printed_config_holds_overrides_and_defaults_and_is_a_config(sinusoids, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(sinusoids), LR, "0.5", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    inner_loop = config["model"]["init_args"]["learner"]["init_args"]["inner_loop"]
    assert inner_loop == {
        "class_path": "metalit.inner_loops.GradientDescent",
        "init_args": {
            "lr": 0.5,
            "steps": 1,
            "eval_steps": None,
            "first_order": False,
            "memory": "auto",
            "mixed_precision": False,
        },
    }
    assert config["data"]["init_args"]["episodes_per_epoch"] == 12


def test_a_later_config_wins_over_an_earlier_one(sinusoids, tmp_path):
    (tmp_path / "more.yaml").write_text("trainer: {max_epochs: 0}\ndata: {init_args: {seed: 7}}\n")
    arguments = ["fit", "--config", str(sinusoids), "--config", str(tmp_path / "more.yaml")]
    cli = main(arguments)
    assert cli.trainer.max_epochs == 0
    assert cli.datamodule.seed == 7
    assert cli.datamodule.meta_batch_size == 2


def test_main_returns_what_it_trained(sinusoids):
    cli = main(["fit", "--config", str(sinusoids)])
    assert isinstance(cli.model, MetaLearner)
    assert cli.trainer.global_step == 6


def test_a_checkpoint_of_the_command_line_loads_without_arguments(sinusoids, tmp_path):
    module = "from torch import nn\nclass Mine(nn.Linear):\n    def __init__(self, width: int):\n"
    module += "        super().__init__(1, width)\n        self.width = width\n"
    (tmp_path / "loaded_by_test_main.py").write_text(module)
    sys.path.insert(0, str(tmp_path))
    try:
        network = "{class_path: loaded_by_test_main.Mine, init_args: {width: 1}}"
        main(["fit", "--config", str(sinusoids), "--model.learner.network", network, LR, "0.3"])
        file = tmp_path / "runs/version_0/checkpoints/last.ckpt"
        loaded = MetaLearner.load_from_checkpoint(file)
    finally:
        sys.path.remove(str(tmp_path))
    assert type(loaded.learner.network).__name__ == "Mine"
    assert loaded.learner.inner_loop.lr == 0.3
    saved = torch.load(file, weights_only=True)["state_dict"]
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in saved.items())


def test_what_the_checkpoint_and_the_command_line_differ_in_is_listed_and_the_command_line_wins(
    sinusoids, capsys
):
    main(["fit", "--config", str(sinusoids)])
    capsys.readouterr()
    config = ["--config", str(sinusoids), "--ckpt_path", "last"]
    cli = main(["test", *config, LR, "0.5"])
    said = capsys.readouterr().out
    assert "model.learner.inner_loop.lr is 0.01 in the checkpoint and 0.5 now." in said
    assert said.count("in the checkpoint and") == 1
    assert cli.model.learner.inner_loop.lr == 0.5


def test_no_difference_is_listed_where_there_is_none(sinusoids, capsys):
    main(["fit", "--config", str(sinusoids)])
    main(["test", "--config", str(sinusoids), "--ckpt_path", "last"])
    assert "in the checkpoint" not in capsys.readouterr().out


def test_a_new_learning_rate_wins_over_that_of_the_resumed_optimizer(sinusoids):
    main(["fit", "--config", str(sinusoids)])
    more = ["--ckpt_path", "last", "--trainer.max_epochs", "2"]
    optimizer = ["--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", "0.25"]
    cli = main(["fit", "--config", str(sinusoids), *more, *optimizer])
    assert cli.trainer.global_step == 12
    assert [group["lr"] for group in cli.trainer.optimizers[0].param_groups] == [0.25]


def test_a_new_learning_rate_is_refused_where_a_resumed_schedule_sets_it(sinusoids, tmp_path):
    schedule = "{class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 5}}"
    (tmp_path / "schedule.yaml").write_text(f"model: {{init_args: {{lr_scheduler: {schedule}}}}}")
    arguments = ["fit", "--config", str(sinusoids), "--config", str(tmp_path / "schedule.yaml")]
    main(arguments)
    optimizer = ["--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", "0.25"]
    with pytest.raises(ValueError, match=r"model.optimizer.lr cannot change in a resumed run"):
        main([*arguments, "--ckpt_path", "last", *optimizer])


def test_the_version_is_that_of_the_package():
    assert metalit.__version__ == "0.1.0"
