import math

import pytest
import torch
from torch import nn

from metalit.episodes import unlabelled
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML, ArtificialOutliers, SelfSupervised
from metalit.losses import DeepKMeans, OutlierExposure
from metalit.networks import MLP, Centroids
from metalit.streams import CumulativeSum, StreamAdapter


class Distance(nn.Module):
    """A location, whose output for a row is the squared distance to it."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return (x - self.place).square().sum(dim=1, keepdim=True)


class Mean(nn.Module):
    def forward(self, input, target=None):
        return input.mean()


def follower(lr=0.25, steps=1, **arguments):
    """For this learner a step of lr moves the location by 2 lr towards the mean of a window."""
    return StreamAdapter(MAML(Distance(), GradientDescent(lr, steps), Mean()), **arguments)


def place(adapter):
    return adapter._params["place"]


def window(*centre, seed=0, n=40):
    rows = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return 0.1 * (rows - rows.mean(dim=0)) + torch.tensor(centre)


class Alarm(CumulativeSum):
    """Gives the alarm at the windows that it is told."""

    def __init__(self, *times):
        super().__init__()
        self.times, self.time = times, 0

    def update(self, value):
        self.time += 1
        return self.time in self.times


@pytest.mark.parametrize("seed", range(8))
def test_the_sum_is_that_of_page_on_values_standardised_by_those_before(seed):
    values = torch.randn(40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values[12:] += 1
    total, sums = 0.0, []
    for n in range(5, 40):
        unit = values[:n].std() * math.sqrt(1 + 1 / n)
        total = max(0.0, total + float((values[n] - values[:n].mean()) / unit) - 0.5)
        sums.append(total)
    threshold = sorted(sums)[-4] - 1e-6  # reached by the sum, not by one that is a little less
    expected = 5 + next(i for i, value in enumerate(sums) if value > threshold)
    test = CumulativeSum(threshold=threshold, slack=0.5)
    alarms = [n for n, value in enumerate(values.tolist()) if test.update(value)]
    assert alarms[0] == expected
    test = CumulativeSum(threshold=max(sums) + 1e-6, slack=0.5)
    assert not any(test.update(value) for value in values.tolist())


def test_a_sequence_without_a_change_rarely_gives_an_alarm_and_one_with_it_soon():
    generator = torch.Generator().manual_seed(0)
    false, soon = 0, 0
    for _ in range(100):
        test, values = CumulativeSum(), torch.randn(60, generator=generator)
        values[40:] += 4
        alarms = [n for n, value in enumerate(values.tolist()) if test.update(value)]
        false += sum(n < 40 for n in alarms)
        soon += any(40 <= n < 44 for n in alarms)
    assert false <= 0.01 * 100 * 40
    assert soon >= 85


def test_a_fall_gives_no_alarm_and_after_an_alarm_the_test_starts_anew():
    test = CumulativeSum()
    assert not any(test.update(value) for value in (1.0, 1.1, 0.9, 1.0, 1.1, -50.0))
    test, low, high = CumulativeSum(), [1.0, 1.1, 0.9, 1.0, 1.1], [9.0, 9.1, 9.0, 8.9, 9.2]
    assert [test.update(value) for value in low + high] == [False] * 5 + [True] + [False] * 4


def test_a_rise_of_constant_values_is_an_alarm():
    test = CumulativeSum()
    assert [test.update(value) for value in [1.0] * 5 + [1.1]] == [False] * 5 + [True]


def test_a_value_that_is_not_finite_is_an_alarm_and_the_test_goes_on_after_it():
    for lost in (math.nan, math.inf):
        test = CumulativeSum()
        assert [test.update(value) for value in (1.0, lost)] == [False, True]
        assert [test.update(value) for value in [1.0] * 5 + [1.1]] == [False] * 5 + [True]


def test_parameters_that_are_lost_give_way_to_the_meta_learned_ones():
    adapter = follower(test=CumulativeSum()).partial_fit(window(1.0, 0.0))
    adapter._params = {"place": torch.full((2,), math.nan)}
    adapter.partial_fit(window(0.0, -2.0))
    torch.testing.assert_close(place(adapter), torch.tensor([0.0, -1.0]))
    assert adapter.changes == [1]


def test_the_first_window_gives_what_the_learner_learns_from_it():
    net = Centroids(MLP(2, 4, 2), features=2, clusters=3)
    maml = MAML(net, GradientDescent(0.1, steps=3), DeepKMeans()).eval()
    first, second = torch.randn(30, 2), torch.randn(10, 2)
    adapter = StreamAdapter(maml, steps=1).partial_fit(first)
    expected = maml(unlabelled(first), second)
    torch.testing.assert_close(adapter.decision_function(second), expected)
    assert torch.equal(adapter.predict(second), expected.argmax(dim=1))


def test_a_pretext_makes_the_support_sets_as_it_does_around_the_learner():
    maml = MAML(MLP(2, 8, 1), GradientDescent(0.1, steps=2), OutlierExposure()).eval()
    first, second = torch.randn(30, 2), torch.randn(10, 2)
    adapter = StreamAdapter(maml, ArtificialOutliers()).partial_fit(first)
    expected = SelfSupervised(maml, ArtificialOutliers())(unlabelled(first), second)
    torch.testing.assert_close(adapter.decision_function(second), expected.squeeze(1))
    with pytest.raises(ValueError, match="one output"):
        adapter.predict(second)


def test_later_windows_are_learned_from_where_the_earlier_ones_ended():
    adapter = follower(steps=1)  # halfway to the mean of each window
    for step, centre in enumerate([(4.0, 0.0), (4.0, 0.0), (0.0, 8.0)]):
        adapter.partial_fit(window(*centre, seed=step))
    torch.testing.assert_close(place(adapter), torch.tensor([1.5, 4.0]))


def test_an_anchor_pulls_back_to_where_meta_training_ended_before_the_steps():
    adapter = follower(anchor=0.25)  # a quarter of the way to 0, then halfway to the window
    for step in range(2):
        adapter.partial_fit(window(8.0, 0.0, seed=step))
    torch.testing.assert_close(place(adapter), torch.tensor([(0.75 * 4 + 8) / 2, 0.0]))


def test_predictions_change_nothing_and_the_learner_that_was_given_stays_as_it_is():
    maml = MAML(Distance(), GradientDescent(0.25, 1), Mean())
    adapter = StreamAdapter(maml).partial_fit(window(4.0, 0.0))
    before = place(adapter).clone()
    adapter.decision_function(window(0.0, 9.0))
    assert torch.equal(place(adapter), before)
    assert torch.equal(maml.network.place, torch.zeros(2))
    assert maml.training


def test_before_the_first_window_the_meta_learned_parameters_answer():
    x = window(1.0, 1.0)
    expected = x.square().sum(dim=1)
    torch.testing.assert_close(follower().decision_function(x), expected)


def test_after_a_change_the_best_start_is_taken_the_meta_learned_one_among_them():
    adapter = follower(test=Alarm(3))
    for step, centre in enumerate([(8.0, 0.0)] * 3 + [(0.0, -2.0)]):
        adapter.partial_fit(window(*centre, seed=step))
    # from 0 halfway to -2, not from (7, 0), where the windows before had led
    torch.testing.assert_close(place(adapter), torch.tensor([0.0, -1.0]))
    assert adapter.changes == [3]


def test_a_false_alarm_leaves_the_parameters_where_they_would_be():
    with_alarm, without = follower(test=Alarm(3, 4)), follower()
    for step in range(6):
        for adapter in (with_alarm, without):
            adapter.partial_fit(window(8.0, 0.0, seed=step))
    assert torch.equal(place(with_alarm), place(without))


def test_what_was_learned_before_a_change_is_found_again_when_it_returns():
    centres = [(8.0, 0.0)] * 8 + [(-9.0, 0.0)] * 8 + [(8.0, 0.0)]
    ends = {}
    for remembered in (0, 2):
        adapter = follower(test=Alarm(8, 16), remembered=remembered)
        for step, centre in enumerate(centres):
            adapter.partial_fit(window(*centre, seed=step))
        ends[remembered] = place(adapter)
    assert (ends[2] - torch.tensor([8.0, 0.0])).norm() < 0.1
    torch.testing.assert_close(ends[0], torch.tensor([4.0, 0.0]), atol=0.01, rtol=0)


def test_a_jump_of_the_stream_is_noticed_in_the_window_in_which_it_happens():
    adapter = follower(test=CumulativeSum())
    for step in range(20):
        adapter.partial_fit(window(0.0, 0.0 if step < 12 else 5.0, seed=step, n=30 + step % 3))
    assert adapter.changes == [12]


def test_numpy_arrays_and_lists_are_windows_too():
    x = window(1.0, 2.0)
    tensor, array, rows = (
        place(follower().partial_fit(kind)) for kind in (x, x.double().numpy(), x.tolist())
    )
    assert torch.equal(tensor, array)
    assert torch.equal(tensor, rows)


@pytest.mark.parametrize(
    "bad", [torch.zeros(3), torch.zeros(0, 2), torch.tensor([[1.0, float("nan")]])], ids=str
)
def test_a_window_that_is_no_table_of_numbers_is_refused(bad):
    for method in (follower().partial_fit, follower().decision_function):
        with pytest.raises(ValueError, match="without NaN or infinity"):
            method(bad)


@pytest.mark.parametrize("arguments", [{"steps": -1}, {"remembered": -1}, {"anchor": 2}], ids=str)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="0 or more"):
        follower(**arguments)


@pytest.mark.parametrize("arguments", [{"threshold": 0}, {"slack": -1}, {"least": 1}], ids=str)
def test_a_test_that_could_not_work_is_refused(arguments):
    with pytest.raises(ValueError, match="correct them"):
        CumulativeSum(**arguments)
