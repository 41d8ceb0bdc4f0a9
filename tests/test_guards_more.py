from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metalit import Episode, MetaLearner
from metalit.callbacks import LastCheckpoint
from metalit.guards import StepGuard, check_finite

from .test_guards import Poison, Rows, make_data, make_model, make_trainer, same


class Own(MetaLearner):
    """A training step that tells the guard nothing of its tasks."""

    def training_step(self, episodes: Episode, batch_idx: int) -> Tensor:
        return self.score(episodes)[0]


def test_a_training_step_of_ones_own_is_not_skipped(tmp_path: Path) -> None:
    poison, given = Poison(), make_model()
    model = Own(given.learner, given.loss, given.metric)
    make_trainer(tmp_path, poison).fit(model, make_data(2))
    assert not same(poison.states[2], poison.states[1])


def test_good_steps_are_not_saved_up_for_bad_ones_to_come(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 steps had no finite meta-gradient, step 31 the last"):
        make_trainer(tmp_path, Poison(steps=[30, 31])).fit(
            make_model(max_skipped_steps=1), make_data(32)
        )


def test_a_run_without_any_step_has_skipped_not_all_of_them() -> None:
    StepGuard(3).check_end(0)


def test_tasks_left_out_that_are_not_logged_yet_are_logged_after_a_resume(tmp_path: Path) -> None:
    for stop, resume in ((2, None), (None, tmp_path / "last.ckpt")):
        rows, poison = Rows(), Poison(batches=[1], tasks=[0, 3])
        poison.stop_after = stop
        options = {"logger": rows, "log_every_n_steps": 4, "enable_checkpointing": True}
        trainer = make_trainer(tmp_path, poison, LastCheckpoint(str(tmp_path)), **options)
        with suppress(SystemExit):
            trainer.fit(make_model(), make_data(), ckpt_path=resume, weights_only=True)
    assert rows.found("train/masked_tasks") == [(3, 2)]


def test_a_number_that_an_optimizer_begins_with_may_be_infinite() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    optimizer.state[model.weight]["best_loss"] = torch.tensor(torch.inf)
    check_finite(model, [optimizer], "now")


def test_the_first_process_alone_warns(caplog: pytest.LogCaptureFixture) -> None:
    for first in (False, True):
        model: Any = SimpleNamespace(trainer=SimpleNamespace(is_global_zero=first))
        StepGuard(3).warn_once(model, "masked", f"first: {first}")
    assert caplog.messages == ["first: True"]
