import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from metalit import Samples
from metalit.learners import Learner, SklearnClassifier
from metalit.pseudo_labels import Opinions, Refiner, combine, gather_rules, to_log_probabilities
from metalit.pseudo_labels.refinement import fit_temperature, stratified_folds

NEAREST = SklearnClassifier(KNeighborsClassifier(1))


def make_rows(count: int = 60) -> tuple[Tensor, Tensor]:
    """Two clear clusters, and the true labels."""
    truth = torch.arange(count) % 2
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return noise + 8 * truth[:, None], truth


def refine(labels: Tensor, learner: Learner = NEAREST, y: Tensor | None = None, **changes):
    rows, truth = make_rows(len(labels))
    support = Samples(rows, truth if y is None else y)
    refiner = Refiner(10, 5, "full", "stability", None)._replace(**changes)
    groups = gather_rules([], support, 2)
    return refiner(learner, support, rows, labels, 2, groups, torch.Generator().manual_seed(0))


def test_no_row_is_judged_by_a_learner_that_was_fitted_to_its_pseudo_label() -> None:
    rows, _ = make_rows(40)
    copies = torch.cat([rows, torch.full((1, 2), 4.0)])  # a row far from all others
    labels = torch.cat([torch.zeros(40), torch.ones(1)]).long()  # which alone has label 1
    refiner = Refiner(1, 5, "full", "stability", None)
    evidence = refiner.cross_fit(
        NEAREST, copies, copies, labels, 2, torch.Generator().manual_seed(0)
    )
    # a nearest neighbour that had seen the row, or centres with it, would say 1
    assert evidence.answers.argmax(1).tolist() == [0] * 41
    assert evidence.structure.argmax(1).tolist() == [0] * 41


def test_folds_share_each_label_evenly() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5 + [-1] * 5)
    folds = stratified_folds(labels, 5, torch.Generator().manual_seed(0))
    for label, share in ((0, 2), (1, 1), (-1, 1)):
        assert folds[labels == label].bincount(minlength=5).tolist() == [share] * 5


def test_wrong_labels_of_single_rows_are_corrected() -> None:
    _, truth = make_rows()
    wrong = truth.clone()
    wrong[:5] = 1 - wrong[:5]
    kept = refine(wrong, SklearnClassifier(KNeighborsClassifier(9)))
    assert torch.equal(kept.labels, truth)
    assert kept.report["kept"] > 0
    assert kept.report["end"] == "the labels settled"
    assert kept.report["rounds"][1]["changed"] == pytest.approx(5 / 60)
    assert "stability rose from" in kept.report["why"]


def test_noise_is_labelled_in_the_first_round() -> None:
    _, truth = make_rows()
    noisy = truth.clone()
    noisy[7] = -1
    kept = refine(noisy, rounds=0)
    assert kept.labels[7] == -1
    kept = refine(noisy, keep="validity")
    assert kept.report["rounds"][1]["changed"] == pytest.approx(1 / 60)


def test_a_partition_that_no_round_improves_is_kept() -> None:
    _, truth = make_rows()
    # the learner that corrects the labels does worse by the labels that the user gave
    wrong = truth.clone()
    wrong[:5] = 1 - wrong[:5]
    kept = refine(wrong, SklearnClassifier(KNeighborsClassifier(9)), y=wrong, keep="labels")
    assert kept.report["kept"] == 0
    assert torch.equal(kept.labels, wrong)
    assert "no round was better in labels: 1.0000 before" in kept.report["why"]


def test_labels_decide_what_is_kept_only_where_there_are_some() -> None:
    _, truth = make_rows()
    with pytest.raises(ValueError, match='keep="labels" needs the labels of 2 rows or more'):
        refine(truth, y=torch.full((60,), -1), keep="labels")


def test_a_learner_that_refuses_the_labels_leaves_the_partition_as_it_is() -> None:
    class Refusing(Learner):
        def forward(self, support, query):
            raise ValueError("no, thank you\nsecond line")

    _, truth = make_rows()
    kept = refine(truth, Refusing())
    assert torch.equal(kept.labels, truth)
    assert kept.report == {"rounds": [], "end": "the base learner refused: no, thank you"}


def test_the_temperature_is_the_most_likely_one() -> None:
    generator = torch.Generator().manual_seed(0)
    structure = 3 * torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    # labels drawn at a temperature of 2, rows that have a confident label counted
    labels = (structure / 2).softmax(1).multinomial(1, generator=generator)[:, 0]
    evidence = Opinions(torch.zeros_like(structure), structure)
    found = fit_temperature(evidence, labels)
    own = combine(evidence, 1.0).gather(1, labels[:, None])[:, 0] >= math.log(0.5)
    confident = Opinions(evidence.answers[own], structure[own])

    def likelihood(temperature: float) -> float:
        return float(combine(confident, temperature).gather(1, labels[own][:, None]).mean())

    assert (
        likelihood(found) >= max(likelihood(t) for t in torch.logspace(-1, 1, 50).tolist()) - 1e-5
    )
    assert fit_temperature(evidence, torch.full((4000,), -1)) == 1.0


def test_outputs_of_any_width_become_log_probabilities() -> None:
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for clusters in (2, 3, 5):
        changed = to_log_probabilities(outputs, clusters)
        assert changed.shape == (4, clusters)
        torch.testing.assert_close(changed.exp().sum(1), torch.ones(4))
        assert torch.equal(changed.argmax(1), outputs[:, :clusters].argmax(1))


@pytest.mark.parametrize("estimator", [GaussianNB(), LogisticRegression()])
def test_a_refinement_is_the_same_each_time(estimator) -> None:
    labels = torch.randint(2, (60,), generator=torch.Generator().manual_seed(0))
    first, again = (refine(labels, SklearnClassifier(estimator)) for _ in range(2))
    assert torch.equal(first.labels, again.labels)
    assert first.report == again.report
