"""The amortised detector: what it returns untrained, and what it does not depend on."""

import pickle

import pytest
import torch

from metalit import Samples
from metalit.anomaly_scores import AnomalyScores, Calibration, ShiftScores, central_rows
from metalit.learners import AmortizedDetector
from metalit.losses import PairwiseLogistic
from metalit.metrics import AUROC
from metalit.tasks import AnomalyTasks


def task(rows=80, columns=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    context = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
    normal = torch.randn(30, columns, generator=draw, dtype=torch.float64)
    far = 3 + torch.randn(10, columns, generator=draw, dtype=torch.float64)
    return Samples(context, torch.full((rows,), -1)), torch.cat([normal, far])


def changed(learner):
    """As if trained: every parameter is moved a little."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
    return learner.double().eval()


def test_untrained_it_returns_the_mean_of_the_calibrated_scores():
    support, query = task()
    scores = AnomalyScores(support.x)
    expected = Calibration(scores.scores)(scores(query))[0].mean(1)
    outputs = AmortizedDetector().double().eval()(support, query)
    assert torch.allclose(outputs.squeeze(1), expected)


def test_untrained_and_transductive_it_adds_the_shift_scores_to_the_mean():
    support, query = task()
    scores = AnomalyScores(support.x)
    shift = ShiftScores(scores, query)
    calibration = Calibration(torch.cat([scores.scores, shift.context], dim=1))
    expected = calibration(torch.cat([scores(query), shift.own], dim=1))[0].mean(1)
    outputs = AmortizedDetector(transductive=True).double().eval()(support, query)
    assert torch.allclose(outputs.squeeze(1), expected)


def test_a_query_that_is_the_support_set_is_compared_with_its_central_rows_but_not_itself():
    support, _ = task()
    outputs = AmortizedDetector().double().eval()(support, support.x.clone())
    central = central_rows(support.x)
    scores = AnomalyScores(support.x[central])
    own = scores(support.x).index_put((central,), scores.scores)
    assert torch.allclose(outputs.squeeze(1), Calibration(own)(own)[0].mean(1))


def test_a_cluster_of_anomalies_in_the_table_does_not_hide_itself():
    support, _ = task(rows=100)
    table = torch.cat([support.x, 3 + 0.2 * support.x[:15]])
    scores = AnomalyScores(table).scores
    whole = Calibration(scores)(scores)[0].mean(1)
    outputs = AmortizedDetector().double().eval()(Samples(table, torch.zeros(115)), table)
    assert outputs[100:].median() > outputs[:100].quantile(0.97)
    assert whole[100:].median() < whole[:100].quantile(0.97)


@pytest.mark.parametrize("transductive", [False, True])
def test_the_order_of_rows_and_columns_changes_nothing(transductive):
    support, query = task()
    learner = changed(AmortizedDetector(transductive=transductive))
    rows, columns = torch.randperm(80), torch.tensor([2, 0, 1])
    outputs = learner(support, query)
    moved = Samples(support.x[rows][:, columns], support.y)
    assert torch.allclose(learner(moved, query[:, columns].flip(0)).flip(0), outputs, atol=1e-5)


def test_labels_of_the_support_set_are_not_looked_at():
    support, query = task()
    learner = changed(AmortizedDetector())
    labelled = support._replace(y=torch.arange(80).remainder(2))
    assert torch.equal(learner(support, query), learner(labelled, query))


@pytest.mark.parametrize("columns", [1, 2, 30])
def test_any_number_of_columns_is_taken(columns):
    support, query = task(columns=columns)
    assert changed(AmortizedDetector())(support, query).shape == (40, 1)


def test_alone_a_row_is_scored_as_among_others():
    support, query = task()
    learner = changed(AmortizedDetector())
    assert torch.allclose(learner(support, query)[:7], learner(support, query[:7]))


@pytest.mark.parametrize("transductive", [False, True])
def test_a_drawn_context_answers_for_all_rows(transductive):
    support, query = task()
    learner = changed(AmortizedDetector(max_context=20, transductive=transductive))
    learned = learner.learn(support)
    assert learner(support, support.x).shape == (80, 1)
    assert learned.own.shape == (20, 1)
    assert learned(query).shape == (40, 1)
    copy = pickle.loads(pickle.dumps(learned))
    assert torch.equal(copy(query), learned(query))


def test_training_lowers_the_loss_of_the_tasks_it_sees_and_keeps_their_auroc():
    torch.manual_seed(0)
    tasks = AnomalyTasks(rows=(60, 80), columns=(3, 6), n_query=40, clean=1.0)
    episodes = [tasks.sample(torch.Generator().manual_seed(seed)) for seed in range(4)]
    learner = AmortizedDetector(transductive=True)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)

    def loss():
        losses = [PairwiseLogistic(3.0)(learner(e.support, e.query.x), e.query.y) for e in episodes]
        return torch.stack(losses).mean()

    def measure():
        learner.eval()
        found = [AUROC()(learner(e.support, e.query.x)[None], e.query.y[None]) for e in episodes]
        measured = loss().item(), torch.cat(found).mean()
        learner.train()
        return measured

    before = measure()
    for _ in range(12):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    after = measure()
    assert after[0] < before[0] - 0.02
    assert after[1] > before[1]


def test_what_cannot_be_compared_is_refused_in_one_line():
    with pytest.raises(ValueError, match="max_context=1 but a row is compared with at least one"):
        AmortizedDetector(max_context=1)
    support, query = task()
    for bad in (support.x[:1], support.x[0], support.x / 0):
        with pytest.raises(ValueError, match="two or more rows of finite numbers are needed"):
            AmortizedDetector()(Samples(bad, support.y), query)
