"""Sine waves, recovered from their points."""

import math

import numpy as np
import pytest
import torch

from metalit.tasks.sinusoids import SinusoidTasks


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def wave(episode):
    """Amplitude and phase by least squares on the support set."""
    x, y = (t.double().numpy() for t in episode.support)
    (a, b), *_ = np.linalg.lstsq(np.hstack([np.sin(x), np.cos(x)]), y[:, 0])
    return math.hypot(a, b), math.atan2(-b, a)


def test_support_and_query_lie_on_one_wave_within_the_ranges_of_the_paper():
    for seed in range(30):
        episode = SinusoidTasks().sample(seeded(seed))
        amplitude, phase = wave(episode)
        assert 0.1 <= amplitude <= 5 + 1e-4
        assert -1e-3 <= phase <= math.pi + 1e-3
        expected = amplitude * np.sin(episode.query.x.numpy() - phase)
        assert np.allclose(episode.query.y.numpy(), expected, atol=1e-4)
        assert episode.query.x.abs().max() <= 5


def test_every_task_is_another_wave_and_every_set_has_other_points():
    tasks = SinusoidTasks(shot=10, query_shot=10)
    waves = {tuple(np.round(wave(tasks.sample(seeded(seed))), 3)) for seed in range(20)}
    assert len(waves) == 20
    support, query = tasks.sample(seeded(0))
    assert not set(support.x.flatten().tolist()) & set(query.x.flatten().tolist())


def test_the_best_constant_answer_has_the_mean_squared_error_that_the_docstring_says():
    y = torch.cat([SinusoidTasks().sample(seeded(seed)).query.y for seed in range(3000)])
    x = torch.cat([SinusoidTasks().sample(seeded(seed)).query.x for seed in range(3000)])
    order = x.flatten().argsort()
    windows = y.flatten()[order].view(100, -1)
    assert windows.var(1).mean() == pytest.approx(3, abs=0.3)


def test_ranges_and_numbers_of_points_are_arguments():
    tasks = SinusoidTasks(3, 7, amplitude=(2.0, 2.0), phase=(0.0, 0.0), domain=(1.0, 2.0))
    support, query = tasks.sample(seeded(0))
    assert support.x.shape == support.y.shape == (3, 1)
    assert query.x.shape == query.y.shape == (7, 1)
    assert support.x.dtype == support.y.dtype == torch.float32
    assert 1 <= query.x.min() <= query.x.max() <= 2
    assert torch.allclose(query.y, 2 * torch.sin(query.x))


def test_a_sine_episode_is_a_pure_function_of_its_generator():
    first, again = SinusoidTasks().sample(seeded(4)), SinusoidTasks().sample(seeded(4))
    assert torch.equal(first.support.y, again.support.y)
    assert torch.equal(first.query.x, again.query.x)


@pytest.mark.parametrize("args", [{"shot": 0}, {"query_shot": 0}, {"phase": (1.0, 0.0)}])
def test_what_makes_no_wave_is_refused(args):
    with pytest.raises(ValueError, match=r"raise the one|swap them"):
        SinusoidTasks(**args)
