import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from metalit.pseudo_labels import choose_number


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("selection", ["silhouette", "gap", "bic", "stability"])
@pytest.mark.parametrize("clusters", [2, 4])
def test_every_criterion_finds_the_number_of_clear_clusters(selection: str, clusters: int) -> None:
    centers = [[0, 0], [20, 1], [3, 22], [19, 23]][:clusters]
    table, _ = make_blobs(120, centers=centers, random_state=0)
    number, curve = choose_number(table, KMeans(n_init=3), selection, 6, generator())
    assert number == clusters
    assert list(curve) == ["2", "3", "4", "5", "6"]
    assert all(type(value) is float for value in curve.values())


def test_the_silhouette_is_that_of_scikit_learn() -> None:
    table, _ = make_blobs(60, random_state=0)
    _, curve = choose_number(table, AgglomerativeClustering(), "silhouette", 4, generator())
    for k, value in curve.items():
        labels = AgglomerativeClustering(int(k)).fit_predict(table)
        assert value == pytest.approx(silhouette_score(table, labels))


def test_the_bic_is_that_of_a_mixture_of_gaussians() -> None:
    table, _ = make_blobs(60, centers=2, random_state=0)
    _, curve = choose_number(table, KMeans(), "bic", 2, generator())
    mixture = GaussianMixture(2, reg_covar=1e-4 * table.var(axis=0).mean(), random_state=0)
    assert -curve["2"] == pytest.approx(mixture.fit(table).bic(table), rel=1e-4)


def test_the_gap_is_the_mean_log_dispersion_of_uniform_tables_less_the_own() -> None:
    # one column of equally spaced rows is uniform, in 2 halves as in any other number of parts
    table = np.linspace(0, 1, 400)[:, None]
    _, curve = choose_number(table, KMeans(n_init=2), "gap", 3, generator())
    assert max(abs(value) for value in curve.values()) < 0.1


def test_rows_with_too_few_different_values_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"9 rows with 2 different ones .* set n_clusters"):
        choose_number(np.arange(9)[:, None] % 2, KMeans(), "silhouette", 4, generator())


def test_numbers_stay_below_the_number_of_different_rows() -> None:
    table = np.arange(12.0)[:, None] % 4
    assert list(choose_number(table, KMeans(), "silhouette", 9, generator())[1]) == ["2", "3"]
