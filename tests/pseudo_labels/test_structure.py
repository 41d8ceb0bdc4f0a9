import pytest
import torch
from scipy.stats import multivariate_normal

from metalit.pseudo_labels import fit_structure


def make_rows(size: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4000, size, generator=generator, dtype=torch.float64)
    labels = torch.arange(4000) % 2
    mixing = torch.eye(size, dtype=torch.float64) + torch.ones(size, size).triu(1)
    return torch.where(labels[:, None] == 0, rows, rows @ mixing + 2), labels


def test_the_logits_are_the_log_densities_of_gaussians_up_to_a_constant() -> None:
    rows, labels = make_rows()
    logits = fit_structure(rows, labels, 2)(rows[:10])
    densities = [
        multivariate_normal(rows[labels == k].mean(0), rows[labels == k].T.cov()).logpdf(rows[:10])
        for k in range(2)
    ]
    wanted = torch.tensor(densities[0] - densities[1])
    # the covariances are drawn towards a sphere, a little
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], wanted, rtol=0.1, atol=0.1)


def test_spherical_clusters_are_told_apart_by_the_nearest_centre() -> None:
    rows, labels = make_rows()
    logits = fit_structure(rows, labels, 2, "spherical")(rows)
    centres = torch.stack([rows[labels == k].mean(0) for k in range(2)])
    assert torch.equal(logits.argmax(1), torch.cdist(rows, centres).argmin(1))


def test_shared_covariances_leave_the_boundary_flat() -> None:
    rows, labels = make_rows()
    structure = fit_structure(rows, labels, 2, "shared")
    steps = torch.outer(torch.arange(5.0, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    differences = structure(steps).diff(dim=1)[:, 0]
    torch.testing.assert_close(differences.diff(n=2), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("covariance", ["full", "shared", "spherical"])
def test_a_cluster_without_rows_takes_none_and_noise_counts_for_none(covariance) -> None:
    rows, labels = make_rows()
    noisy = torch.cat([rows, torch.full((5, 3), 1e3, dtype=torch.float64)])
    structure = fit_structure(noisy, torch.cat([labels, torch.full((5,), -1)]), 4, covariance)
    assert structure(rows).argmax(1).max() == 1
    torch.testing.assert_close(
        structure(rows), fit_structure(rows, labels, 4, covariance)(rows), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("covariance", ["full", "shared", "spherical"])
def test_duplicates_and_single_rows_have_finite_logits(covariance) -> None:
    rows = torch.tensor([[0.0, 1.0]] * 3 + [[5.0, 1.0]], dtype=torch.float64)
    logits = fit_structure(rows, torch.tensor([0, 0, 0, 1]), 2, covariance)(rows)
    assert logits.isfinite().all()
    assert logits.argmax(1).tolist() == [0, 0, 0, 1]


def test_rows_that_are_too_long_for_matrices_are_an_error() -> None:
    rows, labels = torch.zeros(4, 2000, dtype=torch.float64), torch.arange(4) % 2
    with pytest.raises(ValueError, match=r"2000 features but .* at most 1024: give a reducer"):
        fit_structure(rows, labels, 2)
    assert fit_structure(rows, labels, 2, "spherical")(rows).shape == (4, 2)
