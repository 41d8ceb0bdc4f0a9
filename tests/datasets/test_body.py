"""The people of the founding example: their moments, their splits and their seeds."""

import numpy as np
import pytest
import torch

from metalit.datasets.body import COVARIANCES, MEANS, BodyMeasurements
from metalit.tasks import LabelTasks


def test_many_people_have_the_published_means_and_covariances():
    many = 100_000
    x, y = BodyMeasurements("train", people_per_sex=many).tensors
    for label, sex in enumerate(["female", "male"]):
        rows, covariance = x[y == label].double().numpy(), np.array(COVARIANCES[sex])
        spread = np.sqrt(np.diag(covariance))
        # five standard errors: s / sqrt(n) for a mean, at most sqrt(2 / n) s_i s_j for a covariance
        assert np.all(np.abs(rows.mean(axis=0) - MEANS[sex]) < 5 * spread / np.sqrt(many))
        error = np.abs(np.cov(rows.T) - covariance)
        assert np.all(error < 5 * np.sqrt(2 / many) * np.outer(spread, spread))


@pytest.mark.parametrize("sex", ["female", "male"])
def test_published_covariances_are_symmetric_and_positive(sex):
    covariance = np.array(COVARIANCES[sex])
    assert np.array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_women_come_first_then_as_many_men():
    people = BodyMeasurements("train")
    x, y = people.tensors
    assert (x.shape, x.dtype, y.dtype) == ((400, 3), torch.float32, torch.int64)
    assert people.classes == ["female", "male"]
    assert len(people.columns) == 3
    assert torch.equal(y, torch.tensor([0] * 200 + [1] * 200))
    assert (x[y == 1, :2].mean(dim=0) > x[y == 0, :2].mean(dim=0) + 10).all()


def test_an_equal_seed_draws_equal_people_and_another_seed_others():
    x, again, other = (BodyMeasurements("val", 50, seed).tensors[0] for seed in (3, 3, 4))
    assert torch.equal(x, again)
    assert not (x == other).any()


def test_no_person_is_in_two_splits():
    splits = [BodyMeasurements(split).tensors[0] for split in ("train", "val", "test")]
    people = {tuple(row) for x in splits for row in x.tolist()}
    assert len(people) == 3 * 400


def test_label_tasks_draw_half_of_an_episode_from_each_sex():
    tasks = LabelTasks(way=2, shot=100, query_shot=20).fit(*BodyMeasurements("test").tensors)
    episode = tasks.sample(torch.Generator().manual_seed(0))
    assert episode.support.x.shape == (200, 3)
    assert episode.query.y.bincount().tolist() == [20, 20]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("training",), "'training' is unknown"),
        (("train", 0), "people_per_sex=0 should be at least 1"),
    ],
)
def test_an_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BodyMeasurements(*arguments)
