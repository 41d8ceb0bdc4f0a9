"""Pretexts, and a learner that learns from what they make."""

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from metalit import Samples
from metalit.inner_loops import GradientDescent
from metalit.learners import (
    MAML,
    ArtificialOutliers,
    SelfSupervised,
    ShuffledColumns,
    TwoViews,
)
from metalit.losses import MutualInformation, OutlierExposure
from metalit.networks import MLP

PRETEXTS = [ArtificialOutliers(share=0.5), ShuffledColumns(), TwoViews(noise=0.2)]
every_pretext = pytest.mark.parametrize("pretext", PRETEXTS, ids=lambda p: type(p).__name__)


def support(n=40, d=3, seed=0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, d + 1)
    return Samples(x + 5, torch.full((n,), -1))


@every_pretext
def test_a_pretext_keeps_the_rows_in_front_and_never_looks_at_labels(pretext):
    given = support()
    made = pretext(given)
    assert torch.equal(made.x[:40], given.x)
    assert made.x.shape[1:] == given.x.shape[1:]
    assert len(made.x) == len(made.y)
    assert made.x.dtype == given.x.dtype
    again = pretext(given._replace(y=torch.arange(40)))
    assert torch.equal(again.x, made.x)
    assert torch.equal(again.y, made.y)


@every_pretext
def test_another_seed_gives_other_rows(pretext):
    other = type(pretext)(seed=1)
    made, others = pretext(support()).x[40:], other(support()).x[40:]
    assert not torch.equal(made, others[: len(made)])


@every_pretext
def test_a_pretext_takes_images_too(pretext):
    images = torch.rand(8, 1, 4, 4)
    made = pretext(Samples(images, torch.full((8,), -1)))
    assert made.x.shape[1:] == (1, 4, 4)
    assert made.x.isfinite().all()


def test_artificial_outliers_are_uniform_over_the_widened_box():
    given = support(200)
    made = ArtificialOutliers(share=20.0, widening=1.5)(given)
    assert made.y.tolist() == [0] * 200 + [1] * 4000
    low, high = given.x.amin(0), given.x.amax(0)
    places = (made.x[200:] - (low + high) / 2) / (high - low)
    assert places.abs().max() <= 0.75
    torch.testing.assert_close(places.mean(0), torch.zeros(3), atol=0.03, rtol=0)
    torch.testing.assert_close(places.var(0), torch.full((3,), 1.5**2 / 12), atol=0.01, rtol=0)
    few = ArtificialOutliers(share=0.001)(given)
    assert int(few.y.sum()) == 1


def test_shuffled_columns_keep_every_value_and_no_dependency():
    x = torch.randn(500, 1).expand(500, 2) + 0.01 * torch.randn(500, 2)
    made = ShuffledColumns()(Samples(x, torch.full((500,), -1)))
    assert made.y.tolist() == [0] * 500 + [1] * 500
    shuffled = made.x[500:]
    assert torch.equal(shuffled.sort(dim=0).values, x.sort(dim=0).values)
    assert torch.corrcoef(x.T)[0, 1] > 0.99
    assert torch.corrcoef(shuffled.T)[0, 1].abs() < 0.15


def test_two_views_differ_by_noise_of_the_scale_of_each_feature():
    given = support(2000)
    made = TwoViews(noise=0.2)(given)
    assert (made.y == -1).all()
    noise = made.x[2000:] - given.x
    torch.testing.assert_close(noise.std(0), 0.2 * given.x.std(0), rtol=0.1, atol=0)
    one = TwoViews()(Samples(torch.ones(1, 2), torch.tensor([-1])))
    assert torch.equal(one.x, torch.ones(2, 2))  # one row has no spread


def test_learning_from_a_pretext_is_learning_from_the_rows_that_it_makes():
    torch.manual_seed(0)
    maml = MAML(MLP(3, 8, 1), GradientDescent(0.1, steps=2), OutlierExposure())
    query = torch.randn(5, 3)
    learner = SelfSupervised(maml, ArtificialOutliers())
    expected = maml(ArtificialOutliers()(support()), query)
    assert torch.equal(learner(support(), query), expected)
    assert torch.equal(learner.learn(support())(query), expected)
    assert learner.name == maml.name


def test_untrained_a_detector_learns_where_the_rows_are():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(200, 2, generator=generator)
    query = torch.cat([torch.randn(50, 2, generator=generator), torch.rand(50, 2) * 12 - 6])
    network = MLP(2, [32, 32], 1)
    maml = MAML(network, GradientDescent(0.5, steps=60), OutlierExposure())
    learner = SelfSupervised(maml, ArtificialOutliers(share=2.0, widening=2.0))
    with torch.no_grad():
        scores = learner(Samples(normal, torch.full((200,), -1)), query)[:, 0]
    assert roc_auc_score(torch.arange(100) >= 50, scores) > 0.9


def test_check_looks_at_what_the_pretext_made():
    maml = MAML(MLP(3, 8, 4), GradientDescent(0.1), MutualInformation(consistency=1.0))
    SelfSupervised(maml, TwoViews()).check(support(7))
    with pytest.raises(ValueError, match="7 rows but two views"):
        maml(support(7), torch.randn(2, 3))
    wide = MAML(MLP(3, 8, 2), GradientDescent(0.1), OutlierExposure())
    with pytest.raises(ValueError, match="give the network 1 output"):
        SelfSupervised(wide, ArtificialOutliers()).check(support())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArtificialOutliers(share=0), "share=0"),
        (lambda: ArtificialOutliers(widening=-1), "widening=-1"),
        (lambda: TwoViews(noise=0), "noise=0"),
    ],
)
def test_arguments_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_learner_from_a_pretext_of_ones_own_is_a_learner():
    class Reversed(nn.Module):
        def forward(self, support):
            return Samples(support.x.flip(0), support.y.flip(0))

    maml = MAML(MLP(3, 8, 2), GradientDescent(0.1), MutualInformation())
    learner = SelfSupervised(maml, Reversed())
    assert learner(support(), torch.randn(4, 3)).shape == (4, 2)
