from pathlib import Path

import pytest
from torch import Tensor

from metalit import Episode, MetaLearner
from metalit.guards import StepGuard

from .test_guards import Poison, make_data, make_model, make_trainer, same


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
