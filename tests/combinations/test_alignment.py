"""One partition out of several: by hand, and where it is known what must come out."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch.nn.functional import one_hot

from metalit.combinations.alignment import cluster_coassociation, keep_largest, vote


def stack(*partitions):
    """One-hot rows of partitions that are given as labels, with one width for all."""
    labels = torch.stack([torch.as_tensor(partition) for partition in partitions])
    return one_hot(labels, int(labels.max()) + 1).double()


def test_renamed_partitions_vote_as_one():
    truth = torch.arange(30) % 3
    orders = torch.tensor(list(itertools.permutations(range(3))))
    found = vote(stack(*orders[:, truth]), torch.full((6,), 1 / 6).double(), truth)
    assert torch.equal(found, truth)


def test_the_heavier_partitions_decide_row_by_row():
    reference = [0, 0, 0, 1, 1, 1]
    moved = [1, 1, 0, 0, 0, 0]  # the same clusters under other names, but for row 2
    weights = torch.tensor([0.4, 0.3, 0.3]).double()
    found = vote(stack(reference, moved, moved), weights, torch.tensor(reference))
    assert found.tolist() == [0, 0, 1, 1, 1, 1]
    found = vote(
        stack(reference, moved), torch.tensor([0.6, 0.4]).double(), torch.tensor(reference)
    )
    assert found.tolist() == reference


def test_a_cluster_too_many_stands_for_the_clusters_of_its_rows():
    reference = [0, 0, 0, 0, 1, 1, 1, 1]
    finer = [0, 0, 2, 2, 1, 1, 1, 1]  # its third cluster is the other half of the first
    weights = torch.tensor([0.1, 0.9]).double()
    assert vote(stack(reference, finer), weights, torch.tensor(reference)).tolist() == reference


def test_the_reference_decides_ties():
    reference, other = [0, 0, 1, 1, 1], [0, 0, 0, 1, 1]
    for clusters in (reference, other):
        found = vote(
            stack(reference, other), torch.tensor([0.5, 0.5]).double(), torch.tensor(clusters)
        )
        assert found.tolist() == clusters


def test_coassociation_is_the_linkage_of_weighted_agreement():
    # rows 0-1 together in both, 2-3 in both, 1-2 in the lighter one only: two clusters
    partitions, weights = stack([0, 0, 1, 1], [0, 1, 1, 0]), torch.tensor([0.7, 0.3]).double()
    found = cluster_coassociation(partitions, weights, 2)
    assert adjusted_rand_score([0, 0, 1, 1], found) == 1
    found = cluster_coassociation(partitions, weights.flip(0), 2)
    assert adjusted_rand_score([0, 1, 1, 0], found) == 1


def test_coassociation_finds_clusters_that_no_partition_has():
    rows = np.arange(40)
    halves, parity = rows // 20, rows % 2
    found = cluster_coassociation(stack(halves, parity), torch.tensor([0.5, 0.5]).double(), 4)
    assert adjusted_rand_score(2 * halves + parity, found) == 1


def test_coassociation_of_fewer_rows_than_clusters_keeps_each():
    found = cluster_coassociation(stack([0, 0]), torch.ones(1).double(), 3)
    assert found.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("clusters", "most", "kept"),
    [
        ([5, 5, 2, 2, 2], None, [1, 1, 0, 0, 0]),
        ([5, 5, 2, 2, 9], 2, [1, 1, 0, 0, 0]),
        ([0, 1, 2, 2, 2], 1, [0, 0, 0, 0, 0]),
        ([0, 0, 0, 1, 1], 4, [0, 0, 0, 1, 1]),
    ],
)
def test_the_largest_clusters_are_kept_and_the_others_join_their_nearest(clusters, most, kept):
    table = np.array([[0.0], [1.0], [5.0], [5.5], [6.0]])
    assert keep_largest(torch.tensor(clusters), most, table).tolist() == kept
