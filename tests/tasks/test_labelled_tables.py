"""Labelled data that tasks are cut from, and curricula inside other tasks."""

import pytest
import torch
from torch.utils.data import TensorDataset

from metalit.tasks import Curriculum, JointTasks, LabelTasks
from metalit.tasks._labelled_tables import LabelledTables


def rows_of(x, y):
    return len(x)


def test_data_sets_come_before_the_data_of_the_module_and_are_read_once() -> None:
    made = []

    def make(split: str) -> TensorDataset:
        made.append(split)
        return TensorDataset(torch.zeros(7, 2), torch.zeros(7, dtype=torch.int64))

    tables = LabelledTables("Cuts", [make], "val", rows_of)
    tables.fit(torch.zeros(2, 2), None)
    assert tables.read() == tables.read() == [7]
    assert made == ["val"]


def test_without_data_sets_the_data_of_the_module_are_taken() -> None:
    tables = LabelledTables("Cuts", None, "train", rows_of)
    with pytest.raises(ValueError, match="Cuts has no data"):
        tables.read()
    tables.fit(torch.zeros(2, 2), None)
    assert tables.read() == [2]


def test_a_curriculum_goes_on_inside_joint_tasks() -> None:
    first, last = LabelTasks(2, 1, 1), LabelTasks(3, 1, 1)
    tasks = JointTasks(Curriculum(first, last, episodes=10))
    assert tasks.at(0).tasks is first
    assert tasks.at(10).tasks is last
