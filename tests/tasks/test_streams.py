import pytest
import torch

from metalit.tasks import StreamTasks
from metalit.tasks.streams import drift, jump, no_change, oscillation, recurrence

CHANGES = (no_change, drift, jump, recurrence, oscillation)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_path_is_a_mean_of_states_in_every_window(change):
    path = change(90, generator())
    assert path.shape[0] == 90
    assert (path >= 0).all()
    torch.testing.assert_close(path.sum(dim=1), torch.ones(90))


def test_a_drift_is_at_two_neighbouring_states_and_moves_by_one_in_twenty_windows():
    path = drift(90, generator())
    place = path @ torch.arange(path.shape[1]).float()
    torch.testing.assert_close(place.diff(), torch.full((89,), 0.05), atol=1e-5, rtol=0)
    assert ((path > 0).sum(dim=1) <= 2).all()


def test_jumps_are_15_to_25_windows_apart_and_lead_to_new_states():
    for seed in range(20):
        state = jump(100, generator(seed)).argmax(dim=1)
        stays = state.unique_consecutive(return_counts=True)[1][:-1]
        assert ((stays >= 15) & (stays <= 25)).all()
        assert state.unique_consecutive().tolist() == list(range(int(state[-1]) + 1))


def test_a_recurrence_jumps_when_a_jump_does_and_returns_after_three():
    for seed in range(5):
        once, again = (kind(100, generator(seed)).argmax(dim=1) for kind in (jump, recurrence))
        assert torch.equal(once % 3, again)


def test_changes_of_a_stream_are_the_first_windows_after_jumps():
    stream = StreamTasks(change=jump).stream(generator(), 100)
    state = jump(100, generator()).argmax(dim=1)
    assert stream.changes == [t for t in range(1, 100) if state[t] != state[t - 1]]
    for change in (no_change, drift, oscillation):
        assert StreamTasks(change=change).stream(generator(), 100).changes == []


def test_windows_of_one_state_have_one_distribution_and_jumps_change_it():
    stream = StreamTasks(rows=2000, change=jump).stream(generator(), 60)
    means = stream.x.mean(dim=1)
    moves = (means[1:] - means[:-1]).norm(dim=1)
    still = torch.ones(59, dtype=torch.bool)
    still[[t - 1 for t in stream.changes]] = False
    assert moves[still].max() < 0.5 * moves[~still].min()


def test_a_recurring_state_has_the_distribution_that_it_had():
    stream = StreamTasks(rows=4000, change=recurrence).stream(generator(1), 90)
    first, *jumps = 0, *stream.changes
    assert len(jumps) >= 3
    torch.testing.assert_close(
        stream.x[first].mean(dim=0), stream.x[jumps[2]].mean(dim=0), atol=0.1, rtol=0
    )


def test_columns_of_a_domain_have_mean_0_and_variance_1_over_its_streams():
    tasks = StreamTasks(rows=20, change=no_change)
    x = torch.cat([tasks.stream(generator(seed), 1).x[0] for seed in range(600)])
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(16), atol=0.15, rtol=0)
    torch.testing.assert_close(x.std(dim=0), torch.ones(16), atol=0.15, rtol=0)


def test_the_share_of_anomalies_is_exact_in_every_window():
    stream = StreamTasks(rows=50, contamination=0.1).stream(generator(), 30)
    assert (stream.y.sum(dim=1) == 5).all()


def test_an_episode_is_two_windows_of_a_stream_the_first_without_labels():
    tasks = StreamTasks(contamination=0.1)
    stream, episode = tasks.stream(generator(3), 2), tasks.sample(generator(3))
    assert torch.equal(episode.support.x, stream.x[0])
    assert torch.equal(episode.query.x, stream.x[1])
    assert torch.equal(episode.query.y, stream.y[1])
    assert (episode.support.y == -1).all()


def test_a_domain_decides_about_the_columns_and_nothing_else():
    one, other = (StreamTasks(domain=seed).stream(generator(), 3) for seed in (0, 1))
    assert torch.equal(one.y, other.y)
    assert not torch.allclose(one.x, other.x, atol=0.5)


def test_rows_of_few_degrees_of_freedom_have_heavy_tails():
    gaussian, heavy = (
        StreamTasks(rows=1000, change=no_change, freedom=freedom).stream(generator(), 1).x[0]
        for freedom in (float("inf"), 2)
    )
    assert heavy.abs().max() > 1.5 * gaussian.abs().max()


@pytest.mark.parametrize(
    "arguments",
    [{"clusters": 1}, {"columns": 6}, {"rows": 7}, {"contamination": 0.001}, {"freedom": 0}],
    ids=str,
)
def test_numbers_out_of_range_are_refused_in_one_line(arguments):
    with pytest.raises(ValueError, match=r"but .*: (raise|correct)") as error:
        StreamTasks(**arguments)
    assert "\n" not in str(error.value)
