from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalit import Episode, MetaLearner, Samples
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.losses import SoftKMeans
from metalit.metrics import Accuracy, MeanSquaredError
from metalit.networks import MLP, Conv4
from metalit.tasks import SinusoidTasks

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv4": (lambda: Conv4(1, 3, image_size=8, hidden=4, blocks=2), (1, 8, 8)),
    "MLP": (lambda: MLP(6, [8, 8], 3), (6,)),
}


@pytest.fixture(autouse=True)
def _fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def make_network(name: str) -> nn.Module:
    return NETWORKS[name][0]().double()


def make_episode(features: tuple[int, ...], seed: int = 0, way: int = 3) -> Episode:
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for size in (2, 4):
        x = torch.rand(way * size, *features, generator=generator, dtype=torch.float64)
        sets.append(Samples(x, torch.arange(way).repeat_interleave(size)))
    return Episode(*sets)


def stack(*episodes: Episode) -> Episode:
    parts = zip(*episodes, strict=True)
    return Episode(*(Samples(*(torch.stack(t) for t in zip(*part, strict=True))) for part in parts))


def explicit_loss(maml: MAML, episode: Episode, loss: nn.Module, create_graph: bool) -> Tensor:
    """The query loss of MAML in plain autograd, written without any part of metalit."""
    network, loop = maml.network, maml.inner_loop
    params = dict(network.named_parameters())
    adapted = [name for name in params if fnmatchcase(name, maml.adapt)]
    for _ in range(loop.steps):
        inner = maml.inner_loss(
            functional_call(network, params, episode.support.x), episode.support.y
        )
        gradients = torch.autograd.grad(
            inner, [params[name] for name in adapted], create_graph=create_graph
        )
        for name, gradient in zip(adapted, gradients, strict=True):
            params[name] = params[name] - loop.lr * gradient
    return loss(functional_call(network, params, episode.query.x), episode.query.y)


def explicit_gradient(maml: MAML, episode: Episode, loss: nn.Module) -> list[Tensor]:
    value = explicit_loss(maml, episode, loss, create_graph=not maml.inner_loop.first_order)
    return list(torch.autograd.grad(value, list(maml.parameters())))


def gradient(maml: MAML, episode: Episode, loss: nn.Module) -> list[Tensor]:
    value = loss(maml(episode.support, episode.query.x), episode.query.y)
    return list(torch.autograd.grad(value, list(maml.parameters())))


def relative_error(found: list[Tensor], wanted: list[Tensor]) -> float:
    a, b = (torch.cat([t.double().flatten() for t in tensors]) for tensors in (found, wanted))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("adapt", ["*", "head.*"])
def test_meta_gradient_equals_explicit_autograd(
    network: str, steps: int, first_order: bool, adapt: str
) -> None:
    loop = GradientDescent(lr=0.4, steps=steps, first_order=first_order)
    maml = MAML(make_network(network), loop, nn.CrossEntropyLoss(), adapt)
    episode, loss = make_episode(NETWORKS[network][1]), nn.CrossEntropyLoss()
    found, wanted = gradient(maml, episode, loss), explicit_gradient(maml, episode, loss)
    assert relative_error(found, wanted) <= 1e-10
    if steps == 5:  # the comparison must be able to fail: another order is far away
        loop.first_order = not first_order
        assert relative_error(explicit_gradient(maml, episode, loss), wanted) > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
def test_meta_gradient_with_an_unsupervised_inner_loss_equals_explicit_autograd(
    network: str,
) -> None:
    maml = MAML(make_network(network), GradientDescent(lr=0.5, steps=2), SoftKMeans())
    episode, loss = make_episode(NETWORKS[network][1]), nn.CrossEntropyLoss()
    wanted = explicit_gradient(maml, episode, loss)
    assert relative_error(gradient(maml, episode, loss), wanted) <= 1e-10


@pytest.mark.parametrize("network", NETWORKS)
def test_gradient_of_a_meta_batch_is_the_mean_over_its_episodes(network: str) -> None:
    maml = MAML(make_network(network), GradientDescent(lr=0.4, steps=2), nn.CrossEntropyLoss())
    episodes = [make_episode(NETWORKS[network][1], seed) for seed in range(3)]
    model = MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy())
    model.score(stack(*episodes))[0].backward()
    each = [explicit_gradient(maml, episode, nn.CrossEntropyLoss()) for episode in episodes]
    mean = [torch.stack(parts).mean(0) for parts in zip(*each, strict=True)]
    assert relative_error([p.grad for p in maml.parameters()], mean) <= 1e-10


def test_meta_gradient_equals_central_finite_differences() -> None:
    network = MLP(2, 4, 2, activation=nn.Tanh()).double()
    maml = MAML(network, GradientDescent(lr=0.3, steps=3), nn.CrossEntropyLoss())
    episode, loss, eps = make_episode((2,), way=2), nn.CrossEntropyLoss(), 1e-5
    found = torch.cat([g.flatten() for g in gradient(maml, episode, loss)])
    start = nn.utils.parameters_to_vector(maml.parameters()).detach()

    def objective(vector: Tensor) -> Tensor:
        nn.utils.vector_to_parameters(vector, maml.parameters())
        return loss(maml(episode.support, episode.query.x), episode.query.y)

    with torch.no_grad():
        units = eps * torch.eye(len(start), dtype=torch.float64)
        numeric = [(objective(start + u) - objective(start - u)) / (2 * eps) for u in units]
    torch.testing.assert_close(found, torch.stack(numeric), rtol=1e-6, atol=1e-9)


class HalfSumOfSquares(nn.Module):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return 0.5 * (input - target).square().sum()


@pytest.mark.parametrize("steps", [1, 3])
def test_first_order_lacks_exactly_the_second_derivatives(steps: int) -> None:
    a, c = torch.randn(2, 6, 4, dtype=torch.float64)
    b, d = torch.randn(2, 6, 1, dtype=torch.float64)
    network, lr = nn.Linear(4, 1, bias=False).double(), 0.05
    episode, loss = Episode(Samples(a, b), Samples(c, d)), HalfSumOfSquares()
    fast = network.weight.detach().T
    for _ in range(steps):
        fast = fast - lr * a.T @ (a @ fast - b)
    first = c.T @ (c @ fast - d)  # the gradient of the query loss at the fast parameters
    contraction = torch.eye(4, dtype=torch.float64) - lr * a.T @ a  # I - lr * Hessian
    second = torch.linalg.matrix_power(contraction, steps).T @ first
    for first_order, wanted in ((True, first), (False, second)):
        maml = MAML(network, GradientDescent(lr, steps, first_order=first_order), loss)
        torch.testing.assert_close(gradient(maml, episode, loss)[0].T, wanted)


def test_float32_gradients_of_a_smooth_network_agree_with_float64() -> None:
    # through max-pool and ReLU single precision can be off by 1e-2 where values nearly tie, which
    # is why every other comparison here is made in float64
    network = MLP(6, [8, 8], 3, activation=nn.Tanh())
    maml = MAML(network, GradientDescent(lr=0.4, steps=5), nn.CrossEntropyLoss())
    episode = make_episode((6,))
    single = Episode(*(Samples(part.x.float(), part.y) for part in episode))
    found = gradient(maml, single, nn.CrossEntropyLoss())
    wanted = gradient(maml.double(), episode, nn.CrossEntropyLoss())
    assert relative_error(found, wanted) < 1e-5


def test_a_near_tie_in_max_pooling_makes_float32_gradients_wrong_and_float64_ones_right() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Unflatten(1, (1, 2)), nn.MaxPool1d(2))
    network.append(nn.Flatten())
    nn.init.eye_(network[0].weight)
    maml = MAML(network, GradientDescent(lr=0.1), nn.MSELoss())
    x = torch.tensor([[1.0, 1.0 + 1e-9]], dtype=torch.float64)  # a tie for float32 alone
    y = torch.zeros(1, 1, dtype=torch.float64)
    single = Episode(Samples(x.float(), y.float()), Samples(x.float(), y.float()))
    found = gradient(maml, single, nn.MSELoss())
    maml.double()
    episode = Episode(Samples(x, y), Samples(x, y))
    wanted = explicit_gradient(maml, episode, nn.MSELoss())
    assert relative_error(gradient(maml, episode, nn.MSELoss()), wanted) <= 1e-10
    assert relative_error(found, wanted) > 0.1


@pytest.mark.parametrize("network", NETWORKS)
def test_evaluation_takes_eval_steps_and_training_takes_steps(network: str) -> None:
    loop = GradientDescent(lr=0.4, steps=1, eval_steps=3)
    maml = MAML(make_network(network), loop, nn.CrossEntropyLoss())
    episode = make_episode(NETWORKS[network][1])
    for mode, steps in ((True, 1), (False, 3)):
        plain = MAML(maml.network, GradientDescent(lr=0.4, steps=steps), nn.CrossEntropyLoss())
        found = maml.train(mode)(episode.support, episode.query.x)
        assert torch.equal(found, plain(episode.support, episode.query.x))


def test_zero_steps_give_the_network_itself() -> None:
    network = make_network("Conv4")
    maml = MAML(network, GradientDescent(lr=0.4, steps=0), nn.CrossEntropyLoss())
    episode = make_episode((1, 8, 8))
    assert torch.equal(maml(episode.support, episode.query.x), network(episode.query.x))


def test_only_parameters_that_match_adapt_are_adapted() -> None:
    network = make_network("MLP")
    maml = MAML(network, GradientDescent(lr=0.4, steps=2), nn.CrossEntropyLoss(), adapt="head.*")
    assert set(maml.initial_parameters()) == {"head.weight", "head.bias"}


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"adapt='top\.\*' matches no parameter of MLP.*head"):
        MAML(MLP(2, 4, 2), GradientDescent(lr=0.1), nn.CrossEntropyLoss(), adapt="top.*")


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True)]
)
def test_running_statistics_are_refused_by_name(norm: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(2, 4), norm, nn.Linear(4, 2))
    with pytest.raises(ValueError, match=rf"^1 \({type(norm).__name__}\).*replace_all_batch_norm"):
        MAML(network, GradientDescent(lr=0.1), nn.CrossEntropyLoss())


def test_the_advice_about_running_statistics_makes_the_network_work() -> None:
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    torch.func.replace_all_batch_norm_modules_(network)
    maml = MAML(network, GradientDescent(lr=0.4, steps=2), nn.CrossEntropyLoss())
    episode, loss = make_episode((6,)), nn.CrossEntropyLoss()
    wanted = explicit_gradient(maml, episode, loss)
    assert relative_error(gradient(maml, episode, loss), wanted) <= 1e-10


@pytest.mark.parametrize(
    ("network", "loss", "y", "message"),
    [
        (nn.Linear(2, 2), nn.CrossEntropyLoss(), torch.arange(3), r"returns 2 outputs but.*way=3"),
        (nn.Linear(2, 2), nn.MSELoss(), torch.zeros(3, 1), r"returns 2 outputs but the targets"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Flatten(0)),
            nn.CrossEntropyLoss(),
            torch.arange(3),
            r"shape \(6,\) for 3 samples but \(3, K\) is needed",
        ),
        (nn.Linear(2, 2), nn.CrossEntropyLoss(), torch.full((3,), -1), r"without a label \(-1\)"),
    ],
)
def test_an_episode_that_does_not_fit_is_named_in_one_line(
    network: nn.Module, loss: nn.Module, y: Tensor, message: str
) -> None:
    maml = MAML(network, GradientDescent(lr=0.1), loss)
    with pytest.raises(ValueError, match=message) as caught:
        maml.check(Samples(torch.rand(3, 2), y))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", [2, 3])
def test_an_episode_that_fits_passes_the_check(way: int) -> None:
    maml = MAML(nn.Linear(2, 3), GradientDescent(lr=0.1), nn.CrossEntropyLoss())
    maml.check(Samples(torch.rand(way, 2), torch.arange(way)))
    free = MAML(nn.Linear(2, 3), GradientDescent(lr=0.1), SoftKMeans())
    free.check(Samples(torch.rand(4, 2), torch.full((4,), -1)))


def test_frozen_parameters_get_no_gradient_and_the_others_the_right_one() -> None:
    network = make_network("MLP")
    maml = MAML(network, GradientDescent(lr=0.4, steps=2), nn.CrossEntropyLoss(), adapt="head.*")
    episode, loss = make_episode((6,)), nn.CrossEntropyLoss()
    wanted = explicit_gradient(maml, episode, loss)[-2:]
    network.encoder.requires_grad_(False)
    loss(maml(episode.support, episode.query.x), episode.query.y).backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    assert relative_error([p.grad for p in network.head.parameters()], wanted) <= 1e-10


def test_dropout_is_drawn_from_the_seed_in_training_and_off_in_evaluation() -> None:
    network = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 3)).double()
    maml = MAML(network, GradientDescent(lr=0.4, steps=2), nn.CrossEntropyLoss())
    episode, loss = make_episode((6,)), nn.CrossEntropyLoss()
    torch.manual_seed(3)
    found = gradient(maml, episode, loss)
    torch.manual_seed(3)
    assert relative_error(found, explicit_gradient(maml, episode, loss)) <= 1e-10
    assert not torch.equal(gradient(maml, episode, loss)[0], found[0])
    maml.eval()
    first, second = (maml(episode.support, episode.query.x) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("first_order", [False, True])
def test_without_gradients_the_answer_is_the_same(first_order: bool) -> None:
    loop = GradientDescent(lr=0.4, steps=2, first_order=first_order)
    maml = MAML(make_network("Conv4"), loop, nn.CrossEntropyLoss())
    model = MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy())
    episode = make_episode((1, 8, 8))
    wanted = maml(episode.support, episode.query.x)
    with torch.no_grad():
        found = maml(episode.support, episode.query.x)
    assert torch.equal(found, wanted)
    assert not found.requires_grad
    loss, accuracy = model.score(stack(episode))
    with torch.inference_mode():
        inferred = model.eval().score(stack(make_episode((1, 8, 8))))  # made in inference mode
    assert torch.equal(inferred[0], loss.detach())
    assert torch.equal(inferred[1], accuracy)


@pytest.mark.parametrize("network", NETWORKS)
def test_adapting_changes_neither_parameters_nor_data(network: str) -> None:
    loop = GradientDescent(lr=0.4, steps=5)
    maml = MAML(make_network(network), loop, nn.CrossEntropyLoss())
    before = {name: value.clone() for name, value in maml.state_dict().items()}
    episode, copy = (make_episode(NETWORKS[network][1]) for _ in range(2))
    gradient(maml, episode, nn.CrossEntropyLoss())
    assert all(torch.equal(value, before[name]) for name, value in maml.state_dict().items())
    assert all(p.grad is None for p in maml.parameters())
    for part, kept in product(range(2), range(2)):
        assert torch.equal(episode[part][kept], copy[part][kept])


def train_on_sinusoids(steps: int) -> float:
    """Mean squared error on 100 new waves after 5 inner steps."""
    torch.manual_seed(0)
    loop = GradientDescent(lr=0.02, steps=steps, eval_steps=5)
    maml = MAML(MLP(1, [40, 40], 1), loop, nn.MSELoss())
    model = MetaLearner(maml, nn.MSELoss(), MeanSquaredError())
    tasks, generator = SinusoidTasks(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(400):
        optimizer.zero_grad()
        model.score(stack(*(tasks.sample(generator) for _ in range(4))))[0].backward()
        optimizer.step()
    new = torch.Generator().manual_seed(2)
    return float(model.eval().score(stack(*(tasks.sample(new) for _ in range(100))))[1].mean())


def test_maml_beats_a_network_trained_on_the_pooled_sinusoids_after_five_steps() -> None:
    pooled, meta_trained = train_on_sinusoids(steps=0), train_on_sinusoids(steps=1)
    assert meta_trained < 0.7 * pooled
