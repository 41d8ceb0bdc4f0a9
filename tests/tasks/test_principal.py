import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from metalit.tasks import OutlierTasks, TableTasks
from metalit.tasks.principal import PrincipalTasks, project

TABLES = OutlierTasks(n_support=40, n_query=30, features=6)


def draw(tasks, seed=0):
    return tasks.sample(torch.Generator().manual_seed(seed))


def test_components_are_those_of_scikit_learn_up_to_sign_and_unit():
    raw, ours = draw(TABLES), draw(PrincipalTasks(TABLES, 4))
    pca = PCA(4).fit(raw.support.x)
    for before, after in zip(raw, ours, strict=True):
        expected = pca.transform(before.x.numpy()) / np.sqrt(pca.explained_variance_[0])
        assert np.allclose(np.abs(expected), after.x.abs().numpy(), atol=1e-4)
        assert torch.equal(before.y, after.y)


def test_signs_do_not_depend_on_those_of_the_columns():
    class Mirrored(OutlierTasks):
        def sample(self, generator):
            support, query = super().sample(generator)
            return type(draw(TABLES))(
                support._replace(x=-support.x.flip(1)), query._replace(x=-query.x.flip(1))
            )

    # mirroring all columns mirrors every component, whose sign is then set right again
    plain, mirrored = draw(PrincipalTasks(TABLES)), draw(PrincipalTasks(Mirrored(40, 30, 6)))
    skewness = [episode.support.x.pow(3).sum(dim=0) for episode in (plain, mirrored)]
    assert all((value >= 0).all() for value in skewness)
    torch.testing.assert_close(plain.query.x, mirrored.query.x, atol=1e-3, rtol=0)


def test_a_narrow_table_gets_columns_of_zeros():
    episode = draw(PrincipalTasks(TABLES, 8))
    assert episode.query.x.shape == (30, 8)
    assert (episode.query.x[:, 6:] == 0).all()
    assert (episode.support.x[:, 5].abs() > 0).any()


def test_tables_of_every_family_get_one_shape():
    tasks = PrincipalTasks(TableTasks((80, 80), 20, clusters=(3, 3), columns=(5, 9)), 6)
    shapes = {draw(tasks, seed).support.x.shape for seed in range(20)}
    assert shapes == {(80, 6)}


def test_a_constant_table_stays_finite():
    class Constant(OutlierTasks):
        def sample(self, generator):
            support, query = super().sample(generator)
            return type(draw(TABLES))(support._replace(x=torch.ones(40, 6)), query)

    episode = draw(PrincipalTasks(Constant(40, 30, 6)))
    assert max(part.x.abs().max() for part in episode) < 100


def test_the_units_of_columns_do_not_matter_to_standardised_tables():
    (x, _), (query, _) = draw(TABLES)
    units = torch.tensor([1e-3, 1.0, 5.0, 40.0, 1e3, 1e4])
    plain, scaled = (project(x * u, query * u, 4, standardize=True) for u in (1.0, units))
    pca = PCA(4).fit(x / x.std(dim=0))
    expected = pca.transform(query / x.std(dim=0)) / np.sqrt(pca.explained_variance_[0])
    assert np.allclose(np.abs(expected), plain[1].abs().numpy(), atol=1e-4)
    for one, other in zip(plain, scaled, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
    assert (project(x, query * units, 4)[1] - plain[1]).abs().max() > 1


def test_tasks_project_what_they_draw_like_any_other_table():
    raw, ours = draw(TABLES), draw(PrincipalTasks(TABLES, 4, standardize=True).at(3))
    expected = project(raw.support.x, raw.query.x, 4, standardize=True)
    assert torch.equal(ours.support.x, expected[0])
    assert torch.equal(ours.query.x, expected[1])


def test_a_constant_column_is_no_reason_to_divide_by_nothing():
    (x, _), (query, _) = draw(TABLES)
    x[:, 2] = 7.0
    support, asked = project(x, query, 4, standardize=True)
    assert support.isfinite().all()
    assert asked.abs().max() < 100


def test_no_components_are_refused():
    with pytest.raises(ValueError, match="components=0 must be at least 1"):
        PrincipalTasks(TABLES, 0)
