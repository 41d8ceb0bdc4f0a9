"""Accuracy, matched accuracy, adjusted Rand and mutual information against scikit-learn."""

from itertools import permutations

import pytest
import torch
from sklearn.metrics import accuracy_score, adjusted_rand_score, normalized_mutual_info_score

from metalit.metrics import Accuracy, AdjustedRand, MatchedAccuracy, NormalizedMutualInfo

ALL = [Accuracy(), MatchedAccuracy(), AdjustedRand(), NormalizedMutualInfo()]
PERMUTATION_INVARIANT = ALL[1:]


def best_accuracy(y, clusters):
    size = max(*y.tolist(), *clusters.tolist()) + 1
    return max(accuracy_score(y, torch.tensor(p)[clusters]) for p in permutations(range(size)))


REFERENCES = [accuracy_score, best_accuracy, adjusted_rand_score, normalized_mutual_info_score]


def meta_batch(seed=0, b=6, q=25, k=3, labels=3):
    """Episodes in which outputs and labels agree more and more."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(labels, (b, q), generator=generator)
    outputs = torch.randn(b, q, k, generator=generator)
    pull = torch.linspace(0, 4, b)[:, None, None]
    return outputs + pull * torch.nn.functional.one_hot(y % k, k), y


def one_hot_outputs(clusters, k=3):
    return torch.nn.functional.one_hot(torch.as_tensor(clusters), k).float()


@pytest.mark.parametrize(("k", "labels"), [(3, 3), (2, 4), (4, 2)])
@pytest.mark.parametrize(("metric", "reference"), list(zip(ALL, REFERENCES, strict=True)))
def test_each_value_equals_scikit_learns_for_that_episode(metric, reference, k, labels):
    outputs, y = meta_batch(k=k, labels=labels)
    expected = [reference(t, z.argmax(-1)) for z, t in zip(outputs, y, strict=True)]
    actual = metric(outputs, y)
    assert actual.dtype == torch.float32
    assert torch.allclose(actual, torch.tensor(expected, dtype=torch.float32), atol=1e-6)
    assert actual.std() > 0.01


@pytest.mark.parametrize(("metric", "reference"), list(zip(ALL, REFERENCES, strict=True)))
@pytest.mark.parametrize(
    ("clusters", "y"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 1, 0, 1]),
        ([0, 1, 2, 1], [0, 0, 0, 0]),
        ([0, 1, 2], [0, 1, 2]),
        ([2, 0, 1, 1], [0, 1, 2, 2]),
        ([0, 0, 1, 1], [0, 1, 0, 1]),
        ([1], [1]),
    ],
)
def test_degenerate_partitions_score_as_in_scikit_learn(metric, reference, clusters, y):
    clusters, y = torch.tensor(clusters), torch.tensor(y)
    actual = metric(one_hot_outputs(clusters)[None], y[None])
    assert actual.item() == pytest.approx(reference(y, clusters), abs=1e-6)


@pytest.mark.parametrize("metric", ALL)
def test_rows_without_a_label_are_ignored_and_an_episode_without_labels_is_nan(metric):
    outputs, y = meta_batch(3)
    holes = y.clone()
    holes[:, 20:] = -1
    assert torch.equal(metric(outputs, holes), metric(outputs[:, :20], y[:, :20]))
    holes[2] = -1
    assert metric(outputs, holes).isnan().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("metric", PERMUTATION_INVARIANT)
def test_renaming_the_clusters_changes_nothing_for_a_clustering_metric(metric):
    outputs, y = meta_batch(4)
    assert torch.allclose(metric(outputs[..., [2, 0, 1]], y), metric(outputs, y))


@pytest.mark.parametrize("metric", ALL)
def test_perfect_outputs_score_one_in_every_episode(metric):
    _, y = meta_batch(5)
    assert torch.allclose(metric(one_hot_outputs(y), y), torch.ones(6))


def test_metric_names_are_the_keys_they_are_logged_under():
    names = ["accuracy", "matched_accuracy", "adjusted_rand", "normalized_mutual_info"]
    assert [metric.name for metric in ALL] == names
