import sys
from math import nan

import pytest

from metalit.checkpoints import changed_arguments, differences, refuse_changes, run_differences
from metalit.main import main

STOPPING = """
trainer:
  callbacks:
  - {class_path: EarlyStopping, init_args: {monitor: val/loss, patience: PATIENCE}}
"""


@pytest.mark.parametrize(
    ("saved", "given"),
    [
        (1, 1.0),
        (True, 1),
        (0, False),
        ([1], [1.0]),
        ({"k": [0]}, {"k": [False]}),
        (None, 0),
        (1, "1"),
    ],
)
def test_values_of_another_type_differ(saved, given):
    # of trainer.limit_train_batches, 1 is one batch and 1.0 is all
    found = differences("", {"trainer": {"x": [saved]}}, {"trainer": {"x": [given]}})
    assert found == {"trainer.x": ([saved], [given])}


@pytest.mark.parametrize("value", [nan, [nan, 1], {"a": nan}, 1, "x", None])
def test_a_value_does_not_differ_from_itself(value):
    assert not differences("", {"model": {"x": value}}, {"model": {"x": value}})


def test_a_value_that_is_new_or_gone_differs():
    one, more = {"model": {"lr": 1}}, {"model": {"lr": 1, "steps": 5}}
    assert differences("", one, more) == {"model.steps": (None, 5)}
    assert differences("", more, one) == {"model.steps": (5, None)}


def test_how_a_run_is_started_is_no_difference():
    first = {"model": {}, "allow_changes": False, "ckpt_path": None, "config": None}
    again = {"model": {}, "allow_changes": True, "ckpt_path": "last", "config": ["a.yaml"]}
    assert run_differences(first, again) == {}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_class_of_the_optimizer_cannot_change_even_if_changes_are_allowed(allowed):
    with pytest.raises(ValueError, match=r"model.optimizer cannot change its class"):
        refuse_changes({"model.optimizer": ("torch.optim.SGD", "torch.optim.Adam")}, allowed)


@pytest.mark.parametrize("name", ["limit_train_batches", "limit_val_batches", "overfit_batches"])
def test_limits_of_the_trainer_change_the_episodes(name):
    with pytest.raises(ValueError, match=f"trainer.{name} would change"):
        refuse_changes({f"trainer.{name}": (1.0, 1)}, allowed=False)
    refuse_changes({f"trainer.{name}": (1.0, 1)}, allowed=True)


def test_the_patience_that_the_user_gives_wins_over_that_of_the_checkpoint(
    sinusoids, tmp_path, capsys
):
    file = tmp_path / "stopping.yaml"
    file.write_text(STOPPING.replace("PATIENCE", "3"))
    main(["fit", "--config", str(sinusoids), "--config", str(file)])
    file.write_text(STOPPING.replace("PATIENCE", "7"))
    more = ["--ckpt_path", "last", "--trainer.max_epochs", "2"]
    cli = main(["fit", "--config", str(sinusoids), "--config", str(file), *more])
    (patience,) = (c.patience for c in cli.trainer.callbacks if hasattr(c, "patience"))
    assert patience == 7
    assert "trainer.callbacks is" in capsys.readouterr().out


def test_a_model_of_a_module_that_is_gone_is_still_compared(sinusoids, tmp_path, capsys):
    module = "from torch import nn\nclass Mine(nn.Linear):\n    def __init__(self):\n"
    (tmp_path / "gone_by_now.py").write_text(module + "        super().__init__(1, 1)\n")
    sys.path.insert(0, str(tmp_path))
    try:
        network = ["--model.learner.network", "gone_by_now.Mine"]
        main(["fit", "--config", str(sinusoids), *network])
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["gone_by_now"]
    linear = "{class_path: torch.nn.Linear, init_args: {in_features: 1, out_features: 1}}"
    arguments = ["--config", str(sinusoids), "--model.learner.network", linear]
    capsys.readouterr()
    main(["test", *arguments, "--ckpt_path", "last"])
    said = capsys.readouterr().out
    assert "model.learner.network is gone_by_now.Mine in the checkpoint and torch.nn" in said
    with pytest.raises(ValueError, match=r"model.learner.network would change"):
        main(["fit", *arguments, "--ckpt_path", "last"])


ANNEAL = """
from lightning.pytorch.callbacks import Callback


class Anneal(Callback):
    seen = []

    def __init__(self, temperature: float = 1.0, patience: int = 3):
        self.temperature, self.patience = temperature, patience

    def on_train_batch_end(self, *_):
        self.temperature *= 0.5

    def on_train_start(self, *_):
        self.seen.append((self.temperature, self.patience))

    def state_dict(self):
        return {"temperature": self.temperature, "patience": self.patience}

    def load_state_dict(self, state):
        vars(self).update(state)
"""


def test_a_callback_gets_its_state_back_and_what_the_user_has_changed(
    sinusoids, tmp_path, monkeypatch
):
    (tmp_path / "annealing.py").write_text(ANNEAL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "annealing", raising=False)
    anneal = "--trainer.callbacks={class_path: annealing.Anneal, init_args: {patience: %d}}"
    arguments = ["fit", "--config", str(sinusoids), "--trainer.max_epochs"]
    main([*arguments, "1", anneal % 3])
    main([*arguments, "2", anneal % 3, "--ckpt_path", "last"])
    main([*arguments, "3", anneal % 7, "--ckpt_path", "last"])
    assert sys.modules["annealing"].Anneal.seen == [(1.0, 3), (0.5**6, 3), (0.5**12, 7)]


def test_the_arguments_that_have_changed_are_named_by_class():
    stopping = {
        "class_path": "lightning.EarlyStopping",
        "init_args": {"patience": 3, "mode": "min"},
    }
    more = {**stopping, "init_args": {"patience": 5, "mode": "min"}}
    saved = {"trainer": {"callbacks": [stopping]}, "checkpoint": {"save_top_k": 1}}
    given = {"trainer": {"callbacks": more}, "checkpoint": {"save_top_k": 2}}
    changed = changed_arguments(saved, given)
    assert changed["lightning.EarlyStopping"] == {"patience"}
    assert changed["lightning.pytorch.callbacks.ModelCheckpoint"] == {"save_top_k"}
    assert changed["metalit.callbacks.LastCheckpoint"] == set()
