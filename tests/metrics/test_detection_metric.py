"""AUROC against scikit-learn."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from metalit.metrics import AUROC, PairAUROC


def meta_batch(ties):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 40, 1, generator=generator)
    y = (torch.rand(5, 40, generator=generator) < 0.3).long()
    scores = scores + y[..., None]
    return (scores.round() if ties else scores), y


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_equals_scikit_learns_with_and_without_ties(ties):
    outputs, y = meta_batch(ties)
    expected = [roc_auc_score(t, s[:, 0]) for s, t in zip(outputs, y, strict=True)]
    actual = AUROC()(outputs, y)
    assert actual.dtype == torch.float32
    assert torch.allclose(actual, torch.tensor(expected, dtype=torch.float32), atol=1e-6)


def test_a_higher_score_means_more_anomalous():
    y = torch.tensor([[0, 0, 1]])
    assert AUROC()(torch.tensor([[[0.0], [1.0], [2.0]]]), y) == 1
    assert AUROC()(torch.tensor([[[2.0], [1.0], [0.0]]]), y) == 0
    assert AUROC()(torch.zeros(1, 3, 1), y) == 0.5


def test_infinite_scores_rank_and_nan_scores_give_nan():
    outputs = torch.tensor([[[-torch.inf], [1.0], [torch.inf]], [[torch.nan], [1.0], [2.0]]])
    areas = AUROC()(outputs, torch.tensor([[0, 0, 1], [0, 0, 1]]))
    assert areas[0] == 1
    assert areas[1].isnan()


def test_rows_without_a_label_do_not_rank_and_an_episode_without_labels_is_nan():
    outputs, y = meta_batch(False)
    holes = y.clone()
    holes[:, 30:] = -1
    assert torch.equal(AUROC()(outputs, holes), AUROC()(outputs[:, :30], y[:, :30]))
    holes[1] = -1
    assert AUROC()(outputs, holes).isnan().tolist() == [False, True, False, False, False]


def test_an_episode_of_one_class_and_two_outputs_are_refused():
    outputs, y = meta_batch(False)
    y[3] = 0
    with pytest.raises(ValueError, match="40 normal rows and 0 anomalies"):
        AUROC()(outputs, y)
    with pytest.raises(ValueError, match="1 output"):
        AUROC()(torch.zeros(5, 40, 2), y)


def test_the_area_of_pairs_is_that_of_scikit_learn_over_the_pairs_looked_at() -> None:
    odds = torch.randn(2, 9, 9, generator=torch.Generator().manual_seed(0))
    odds = (odds + odds.mT).masked_fill(torch.eye(9).bool(), 0)
    odds[:, 0, 4] = odds[:, 4, 0] = 0.0
    y = torch.tensor([[0, 0, 1, 1, 2, 2, 0, -1, 1], [0, 1, 0, 1, 0, 1, 0, 1, -1]])
    expected = []
    for of_task, labels in zip(odds, y, strict=True):
        one, other = torch.triu_indices(9, 9, 1)
        kept = (labels[one] >= 0) & (labels[other] >= 0) & (of_task[one, other] != 0)
        one, other = one[kept], other[kept]
        expected.append(roc_auc_score(labels[one] == labels[other], of_task[one, other]))
    assert PairAUROC()(odds, y).tolist() == pytest.approx(expected)


def test_pairs_of_one_kind_have_no_area() -> None:
    odds = torch.ones(1, 3, 3)
    assert PairAUROC()(odds, torch.zeros(1, 3, dtype=torch.int64)).isnan().all()
