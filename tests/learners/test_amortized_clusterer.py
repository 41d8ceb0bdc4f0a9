"""The learned clusterer: choices, numbers of clusters, adaptation, hard tables."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score

from metalit import Samples
from metalit.episodes import given_clusters, unlabelled
from metalit.graphs import neighbour_graph
from metalit.inner_loops import GradientDescent
from metalit.learners import AmortizedClusterer, PairwiseSimilarity
from metalit.learners.amortized_clusterer import LADDER
from metalit.networks import PairNetwork
from metalit.partitions import classical_partitions, strength


def untrained(**arguments) -> AmortizedClusterer:
    torch.manual_seed(0)
    return AmortizedClusterer(PairwiseSimilarity(PairNetwork(hidden=8, blocks=1)), **arguments)


def blobs(k: int = 3, n: int = 150) -> tuple[torch.Tensor, np.ndarray]:
    centres = [[9 * np.cos(a), 9 * np.sin(a)] for a in np.linspace(0, 2 * np.pi, k + 1)[:-1]]
    x, y = make_blobs(n, centers=centres, random_state=0)
    return torch.from_numpy(x).float(), y


def test_the_number_of_clusters_travels_in_the_labels() -> None:
    x = torch.zeros(4, 2)
    assert unlabelled(x, 7).y.tolist() == [-7] * 4
    assert given_clusters(unlabelled(x, 7).y) == 7
    assert given_clusters(unlabelled(x).y) is None
    assert given_clusters(torch.zeros(4, 1)) is None  # targets of a regression


def test_blobs_are_found_with_the_number_given_in_either_way_or_not_at_all() -> None:
    x, y = blobs(3)
    for learner, support in (
        (untrained(n_clusters=3), unlabelled(x)),
        (untrained(), unlabelled(x, 3)),
        (untrained(), unlabelled(x)),
    ):
        outputs = learner(support, x)
        assert outputs.shape == (150, 3)
        assert adjusted_rand_score(y, outputs.argmax(dim=1)) == 1
        assert torch.allclose(outputs.exp().sum(dim=1), torch.ones(150), atol=1e-4)


def test_labels_of_the_support_set_are_not_looked_at() -> None:
    x, y = blobs()
    labelled = Samples(x, torch.from_numpy(y))
    blind = untrained(n_clusters=3)
    assert torch.equal(blind(labelled, x), blind(unlabelled(x), x))


def test_the_confidence_is_the_expected_index_of_the_chosen_partition() -> None:
    x, _ = make_moons(200, noise=0.06, random_state=0)
    clustering = untrained(n_clusters=2).cluster(unlabelled(torch.from_numpy(x)))
    assert clustering.confidence == pytest.approx(max(clustering.scores.values()))
    assert clustering.scores[clustering.method] == pytest.approx(clustering.confidence)
    assert len(clustering.scores) == 12


def test_numbers_of_clusters_have_probabilities() -> None:
    x, _ = blobs(4, 200)
    clustering = untrained(most_clusters=12).cluster(unlabelled(x))
    assert clustering.numbers == tuple(range(2, 13))
    assert clustering.number_probabilities.sum() == pytest.approx(1)
    assert clustering.numbers[int(clustering.number_probabilities.argmax())] == 4
    broad = untrained(most_clusters=12, temperature=10.0).cluster(unlabelled(x))
    assert broad.number_probabilities.max() < clustering.number_probabilities.max()


def grid(side: int, n: int) -> tuple[torch.Tensor, np.ndarray]:
    """Blobs on a square lattice, far apart."""
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    x, y = make_blobs(n, centers=20.0 * places, random_state=0)
    return torch.from_numpy(x).float(), y


@pytest.mark.parametrize(("side", "last"), [(3, 30), (6, 50)])
def test_large_numbers_are_tried_only_while_the_largest_fits_best(
    monkeypatch, side: int, last: int
) -> None:
    from metalit.learners import amortized_clusterer

    asked = []
    original = amortized_clusterer.classical_partitions
    monkeypatch.setattr(
        amortized_clusterer,
        "classical_partitions",
        lambda graph, numbers, seed: (asked.extend(numbers), original(graph, numbers, seed))[1],
    )
    x, y = grid(side, 20 * side**2 if side > 3 else 400)
    clustering = untrained().cluster(unlabelled(x))
    assert asked == [number for number in LADDER if number <= last]
    assert clustering.numbers == tuple(range(2, last + 1))
    assert adjusted_rand_score(y, clustering.labels) > 0.9


def test_no_more_clusters_are_considered_than_a_fifth_of_the_rows_or_different_rows() -> None:
    x, _ = blobs(3, 60)
    assert untrained().cluster(unlabelled(x)).numbers == tuple(range(2, 13))
    assert untrained().cluster(unlabelled(x[:4].repeat(15, 1))).numbers == (2, 3, 4)


def test_a_number_that_is_given_binds_where_another_would_be_probable() -> None:
    x, _ = make_blobs(100, centers=[[0, 0], [12, 0]], random_state=1)
    x[0] = 1000.0  # one row far off, and hardly a way to see more than two clusters
    clustering = untrained(n_clusters=4).cluster(unlabelled(torch.from_numpy(x)))
    assert len(np.unique(clustering.labels)) == 4
    assert clustering.numbers == (4,)


def test_a_number_is_weighed_by_how_sure_the_network_is_when_it_is_told(monkeypatch) -> None:
    from metalit.learners import amortized_clusterer

    looks, look = [], amortized_clusterer._look
    monkeypatch.setattr(
        amortized_clusterer, "_look", lambda *of: looks.append(look(*of)) or looks[-1]
    )
    x, _ = make_moons(200, noise=0.1, random_state=0)
    clustering = untrained(most_clusters=4).cluster(unlabelled(torch.from_numpy(x)))
    graph = neighbour_graph(x)
    by_number = classical_partitions(graph, [2, 3, 4])
    fits = [
        max(view.pairs.judge(labels) for labels in partitions)
        for view, partitions in zip(looks, by_number, strict=True)
    ]
    weights = np.exp((np.array(fits) + 0.04 * np.log([2, 3, 4])) / 0.05)
    edges = np.average([view.edges for view in looks], axis=0, weights=weights)
    np.testing.assert_allclose(clustering.strength, strength(graph, edges), rtol=1e-9)


def test_new_rows_belong_where_their_neighbours_do_and_context_rows_to_themselves() -> None:
    x, y = blobs()
    learner = untrained(n_clusters=3)
    predictor = pickle.loads(pickle.dumps(learner.learn(unlabelled(x[:100]))))
    labels = learner.cluster(unlabelled(x[:100])).labels
    assert np.array_equal(predictor(x[:100]).argmax(dim=1).numpy(), labels)
    assert adjusted_rand_score(y[100:], predictor(x[100:]).argmax(dim=1)) == 1


def test_a_far_row_in_a_query_changes_no_other() -> None:
    x, _ = blobs()
    clustering = untrained(n_clusters=3).cluster(unlabelled(x[:100]))
    rows = x.double().numpy()
    with_far = clustering.assign(np.concatenate([rows, np.full((1, rows.shape[1]), 1e9)]))
    for alone, beside in zip(clustering.assign(rows), with_far, strict=True):
        np.testing.assert_allclose(beside[:-1], alone, rtol=1e-9, atol=1e-12)


def test_large_tables_are_represented_by_a_subset() -> None:
    x, y = blobs(3, 400)
    learner = untrained(n_clusters=3, n_context=60)
    assert len(learner.cluster(unlabelled(x)).labels) == 60
    assert adjusted_rand_score(y, learner(unlabelled(x), x).argmax(dim=1)) == 1


def test_results_depend_on_nothing_but_the_seed() -> None:
    x, _ = make_moons(150, noise=0.2, random_state=0)
    support = unlabelled(torch.from_numpy(x))
    one, other = untrained().cluster(support), untrained().cluster(support)
    assert np.array_equal(one.labels, other.labels)
    assert one.confidence == other.confidence


class Watched(GradientDescent):
    """Keeps the loss before and after the steps."""

    def forward(self, loss_fn, params):
        adapted = super().forward(loss_fn, params)
        self.losses = [loss_fn(given).item() for given in (params, adapted)]
        return adapted


def test_unsupervised_steps_go_towards_probable_partitions_and_change_no_weight() -> None:
    x, _ = make_moons(150, noise=0.1, random_state=0)
    support = unlabelled(torch.from_numpy(x), 2)
    loop = Watched(lr=1.0, steps=30)
    learner = untrained(inner_loop=loop)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.cluster(support)
    assert loop.losses[1] < loop.losses[0] - 0.02
    assert all(torch.equal(before[name], v) for name, v in learner.state_dict().items())


def test_after_the_steps_the_adapted_network_makes_the_partitions(monkeypatch) -> None:
    from metalit.learners import amortized_clusterer

    seen, original = [], amortized_clusterer.learned_partitions
    monkeypatch.setattr(
        amortized_clusterer,
        "learned_partitions",
        lambda graph, edges, *more: (seen.append(edges), original(graph, edges, *more))[1],
    )
    x, _ = make_moons(60, noise=0.2, random_state=0)
    learner = untrained(inner_loop=GradientDescent(lr=1.0, steps=5))
    learner.cluster(unlabelled(torch.from_numpy(x), 2))
    before, after = seen
    assert np.abs(after - before).max() > 0.01


def test_steps_weigh_the_numbers_of_clusters_as_the_choice_does() -> None:
    x, _ = make_moons(100, noise=0.1, random_state=0)
    support, loop = unlabelled(torch.from_numpy(x)), Watched(lr=1e-9, steps=1)
    untrained(inner_loop=loop, most_clusters=6).cluster(support)
    assert loop.losses[0] < np.log(2)  # a mean over numbers, not a sum


def test_steps_add_partitions_and_the_judge_stays_what_was_meta_learned() -> None:
    x, _ = make_moons(150, noise=0.2, random_state=0)
    support = unlabelled(torch.from_numpy(x), 2)
    plain = untrained().cluster(support)
    stepped = untrained(inner_loop=GradientDescent(lr=3.0, steps=30)).cluster(support)
    for name, score in plain.scores.items():  # classical partitions are judged as before
        if name.startswith("learned"):
            assert stepped.scores[name] >= score
        else:
            assert stepped.scores[name] == pytest.approx(score, abs=1e-12)
    same = untrained(inner_loop=GradientDescent(lr=1e-9, steps=3)).cluster(support)
    assert same.scores == pytest.approx(plain.scores, abs=1e-9)


@pytest.mark.parametrize(
    ("table", "clusters"),
    [
        (torch.zeros(30, 2), 1),  # one row thirty times
        (torch.zeros(1, 2), 1),
        (torch.rand(3, 2), None),
        (torch.eye(2).repeat(20, 1), None),  # two different rows
        (torch.rand(9, 1), None),
        (torch.rand(40, 3).round(), None),
    ],
)
def test_degenerate_tables_get_a_sound_answer(table: torch.Tensor, clusters: int | None) -> None:
    for k in (None, 2, 5):
        clustering = untrained(n_clusters=k).cluster(unlabelled(table))
        found = len(np.unique(clustering.labels))
        assert found == clusters or clusters is None
        assert clustering.labels.max() + 1 == found <= len(np.unique(table.numpy(), axis=0))
        assert np.isfinite(clustering.membership).all()


def test_similarities_are_symmetric_and_deterministic_in_the_seed() -> None:
    x, _ = blobs(3, 60)
    learner = PairwiseSimilarity(PairNetwork(hidden=8, blocks=1), pairs_per_row=3)
    torch.manual_seed(1)
    odds = learner(unlabelled(x, 3), x)
    torch.manual_seed(1)
    assert torch.equal(odds, learner(unlabelled(x, 3), x))
    assert torch.equal(odds, odds.mT)
    assert not odds.diagonal().any()
    looked_at = (odds != 0).sum().item() / 2
    assert 60 * 6 < looked_at < 60 * (12 + 3)


def test_the_similarity_needs_to_be_told_the_number_of_clusters() -> None:
    x, _ = blobs(3, 60)
    learner = PairwiseSimilarity(PairNetwork(hidden=8, blocks=1))
    for call in (lambda: learner(unlabelled(x), x), lambda: learner.check(unlabelled(x))):
        with pytest.raises(ValueError, match="does not tell the number of clusters"):
            call()


@pytest.mark.parametrize(
    "arguments",
    [{"n_clusters": 0}, {"pairs": 0}, {"n_context": 7}, {"most_clusters": 1}, {"temperature": 0.0}],
)
def test_wrong_numbers_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="raise the one that is too small"):
        untrained(**arguments)


def test_more_clusters_than_rows_of_the_context_are_refused() -> None:
    with pytest.raises(ValueError, match="n_clusters=20 should be <= n_context=10"):
        untrained(n_clusters=20, n_context=10)


def test_too_few_rows_are_refused_by_the_similarity() -> None:
    learner = PairwiseSimilarity(PairNetwork(hidden=8))
    with pytest.raises(ValueError, match="5 rows but a neighbour graph needs 8"):
        learner.check(unlabelled(torch.rand(5, 2), 2))
    with pytest.raises(ValueError, match="pairs_per_row=0"):
        PairwiseSimilarity(PairNetwork(hidden=8), pairs_per_row=0)
