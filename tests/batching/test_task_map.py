import logging
import random
import shutil
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metalit import Episode, MetaLearner, Samples
from metalit.batching import NotBatchableError, TaskMap, TaskTensor
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML, Learner, Prototypes
from metalit.metrics import Accuracy
from metalit.networks import MLP

from .test_equality import error, make_episodes, make_network, results


class Unbatchable(Learner):
    """Asks for a number of each task, as a loop over tasks can."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(6, 3).double()

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        return self.network(query) * float(support.x[0, 0])


class _First(nn.Module):
    """The first of some networks."""

    def __init__(self, networks: nn.ModuleList) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, x: Tensor) -> Tensor:
        return self.networks[0](x)


def model_of(learner: Learner, **options: Any) -> MetaLearner:
    return MetaLearner(learner, nn.CrossEntropyLoss(), Accuracy(), **options).train()


def test_auto_falls_back_to_the_loop_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    learner, episodes = Unbatchable(), make_episodes((6,))
    wanted = model_of(learner, tasks="loop").score(episodes)
    model = model_of(learner)
    with caplog.at_level(logging.DEBUG):
        found = model.score(episodes)
        again = model.score(episodes)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(again[0], wanted[0])
    (message,) = [r.getMessage() for r in caplog.records if r.name == "metalit.batching.task_map"]
    assert "one after another" in message
    assert "__float__ gives every task another value" in message


def test_auto_stays_batched_where_only_some_values_need_the_loop() -> None:
    calls = []

    def double(episode: Episode) -> tuple[Tensor, ...]:
        x = episode.query.x
        calls.append(isinstance(x, TaskTensor))
        if len(calls) == 2:
            bool(x.sum() > 0)
        return (2 * x,)

    tasks, episodes = TaskMap(), make_episodes((6,))
    for _ in range(3):
        (found,) = tasks(double, episodes, [1, 2, 3])
        assert torch.equal(found, 2 * episodes.query.x)
    assert calls == [True, True, False, False, False, True]


def test_batched_refuses_what_auto_would_loop_over() -> None:
    with pytest.raises(NotBatchableError, match="gives every task another value"):
        model_of(Unbatchable(), tasks="batched").score(make_episodes((6,)))


@pytest.mark.parametrize(
    ("options", "width", "sizes"),
    [
        ({}, 8, [11]),
        ({}, 2**16, [8, 3]),  # of 256 KiB each
        ({}, 2**20, [4, 4, 3]),  # of 4 MiB each
        ({"chunk": 5}, 8, [5, 5, 1]),
        ({"mode": "loop"}, 8, [1] * 11),
        ({"mode": "loop", "chunk": 5}, 8, [5, 5, 1]),
    ],
)
def test_tasks_run_together_as_many_as_make_it_fast(
    options: dict[str, Any], width: int, sizes: list[int]
) -> None:
    labels = torch.zeros(11, 1, dtype=torch.int64)
    inputs = torch.zeros(1, 1, 1).expand(11, 1, width // 2)
    episodes = Episode(Samples(inputs, labels), Samples(inputs, labels))
    for part in episodes:
        assert part.x.nbytes * 2 == 11 * width * 4
    ran = []

    def run(parts: Episode, seeds: list[int]) -> tuple[Tensor]:
        ran.append(len(seeds))
        return (parts.query.x,)

    tasks = TaskMap(**options)
    assert len(list(tasks._parts(run, episodes, range(11)))) == len(sizes)
    assert ran == sizes


def test_an_error_of_the_user_is_that_of_the_loop() -> None:
    model = model_of(MAML(MLP(5, 4, 3).double(), GradientDescent(0.1), nn.CrossEntropyLoss()))
    with pytest.raises(RuntimeError, match="6x6 and 5x4"):
        model.score(make_episodes((6,)))


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_numbers_of_python_and_numpy_are_drawn_by_one_task_after_another(draw: Any) -> None:
    class Noisy(Unbatchable):
        def forward(self, support: Samples, query: Tensor) -> Tensor:
            return self.network(query) + draw()

    model, episodes, found = model_of(Noisy()), make_episodes((6,)), []
    for tasks in ("auto", "loop"):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002  # what a user may draw from
        model._tasks = TaskMap(tasks)
        found.append([model.score(episodes)[0], model.score(episodes)[0], torch.tensor(draw())])
    assert all(map(torch.equal, *found))


def test_what_a_module_keeps_of_a_task_in_a_buffer_is_kept_by_one_task_after_another() -> None:
    class Remembering(Unbatchable):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

        def forward(self, support: Samples, query: Tensor) -> Tensor:
            self.mean = 0.9 * self.mean + 0.1 * support.x.mean()
            return self.network(query) + self.mean

    learner, episodes = Remembering(), make_episodes((6,))
    with pytest.raises(NotBatchableError, match="Remembering assigns its buffer 'mean' anew"):
        model_of(learner, tasks="batched").score(episodes)
    assert float(learner.mean) == 0
    other = deepcopy(learner)
    for _ in range(2):
        found = model_of(learner).score(episodes)[0]
        assert torch.equal(found, model_of(other, tasks="loop").score(episodes)[0])
    assert torch.equal(learner.mean, other.mean)


def test_random_numbers_that_all_tasks_would_share_are_refused() -> None:
    class Noisy(Unbatchable):
        def forward(self, support: Samples, query: Tensor) -> Tensor:
            return self.network(query) + torch.rand(3, dtype=torch.float64)

    episodes = make_episodes((6,))
    before = torch.get_rng_state()
    with pytest.raises(NotBatchableError, match="random numbers"):
        TaskMap("batched")(lambda e: (Noisy()(e.support, e.query.x),), episodes, [1, 2, 3])
    assert torch.equal(torch.get_rng_state(), before)
    model = model_of(Noisy())
    torch.manual_seed(1)
    first = model.score(episodes)[0]
    torch.manual_seed(1)
    assert torch.equal(model.score(episodes)[0], first)


@pytest.mark.parametrize("tasks", ["loop", "batched", "auto"])
def test_an_error_leaves_the_global_generator_where_it_was(tasks: str) -> None:
    def fail(_: Episode) -> tuple[Tensor, ...]:
        torch.rand(3)
        raise ValueError("as the user's code may")

    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="user's code"):
        TaskMap(tasks)(fail, make_episodes((6,)), [1, 2, 3])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("constant", [0, 1])
def test_the_loss_of_some_chunks_may_be_constant(constant: int) -> None:
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    episodes = make_episodes((6,), tasks=2)

    def answer(episode: Episode) -> tuple[Tensor, Tensor]:
        if torch.equal(episode.query.x, episodes.query.x[constant]):
            return torch.zeros(3), torch.zeros((), dtype=torch.float64)
        return torch.zeros(3), weight.sum()

    loss = TaskMap("loop").mean_loss(answer, episodes, [1, 2], [weight])[1]
    assert torch.equal(torch.autograd.grad(loss, weight)[0], torch.full_like(weight, 0.5))


@pytest.mark.parametrize("tasks", ["loop", "batched"])
def test_a_loss_that_all_tasks_share_has_its_gradient(tasks: str) -> None:
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss = TaskMap(tasks).mean_loss(
        lambda _: (torch.zeros(3), weight.sum()), make_episodes((6,)), [1, 2, 3], [weight]
    )[1]
    assert torch.equal(torch.autograd.grad(loss, weight)[0], torch.ones_like(weight))


def test_parameters_of_the_loss_are_trained_too() -> None:
    class Tempered(nn.CrossEntropyLoss):
        def __init__(self) -> None:
            super().__init__()
            self.temperature = nn.Parameter(torch.ones(()))

        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            return super().forward(input / self.temperature, target)

    maml = MAML(MLP(6, 4, 3).double(), GradientDescent(0.1), nn.CrossEntropyLoss())
    model = MetaLearner(maml, Tempered(), Accuracy()).train()
    model.score(make_episodes((6,)))[0].backward()
    assert float(model.loss.temperature.grad.abs()) > 0


@pytest.mark.parametrize("tasks", ["loop", "batched"])
def test_a_task_draws_the_same_numbers_whatever_runs_beside_it(tasks: str) -> None:
    network, features = make_network("dropout")
    maml = MAML(network, GradientDescent(0.1, 2), nn.CrossEntropyLoss()).train()
    episodes, seeds = make_episodes(features), [5, 6, 7]
    whole = TaskMap(tasks)(lambda e: (maml(e.support, e.query.x),), episodes, seeds)[0]
    for b, seed in enumerate(seeds):
        torch.manual_seed(seed)
        (sx, sy), (qx, _) = episodes
        torch.testing.assert_close(whole[b], maml(Samples(sx[b], sy[b]), qx[b]))


def test_the_loop_leaves_the_global_generator_where_it_was() -> None:
    network, features = make_network("dropout")
    maml = MAML(network, GradientDescent(0.1, 2), nn.CrossEntropyLoss()).train()
    before = torch.get_rng_state()
    TaskMap("loop")(lambda e: (maml(e.support, e.query.x),), make_episodes(features), [1, 2, 3])
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_gives_the_numbers_of_the_loop_without_a_gradient() -> None:
    network, features = make_network("blocks")
    maml = MAML(network, GradientDescent(0.1, 1, eval_steps=3), nn.CrossEntropyLoss())
    episodes = make_episodes(features)
    found, wanted = (model_of(maml, tasks=t).eval().score(episodes) for t in ("batched", "loop"))
    assert not found[0].requires_grad
    assert error(list(found), list(wanted)) <= 1e-10
    with torch.inference_mode():
        inferred = model_of(maml, tasks="batched").eval().score(make_episodes(features))
    assert error(list(inferred), list(wanted)) <= 1e-10


@pytest.mark.parametrize("adapt", ["7.*", "0.*", "[57].*"])
def test_parameters_that_tasks_share_get_the_gradient_of_the_loop(adapt: str) -> None:
    network, features = make_network("blocks")
    network = nn.Sequential(*network, nn.Linear(3, 3).double())
    adapt = adapt.replace("7", "10").replace("5", "9")
    for frozen in (False, True):
        network[4].requires_grad_(not frozen)
        wanted = results(network, make_episodes(features), adapt=adapt)
        for memory in ("graph", "steps"):
            found = results(
                network, make_episodes(features), adapt=adapt, tasks="batched", memory=memory
            )
            assert error(found, wanted) <= 1e-10


@pytest.mark.parametrize("tasks", ["loop", "batched"])
def test_parameters_without_effect_have_a_gradient_of_zero(tasks: str) -> None:
    network = nn.ModuleList([nn.Linear(6, 3), nn.Linear(2, 2)]).double()
    maml = MAML(_First(network), GradientDescent(0.1), nn.CrossEntropyLoss())
    model_of(maml, tasks=tasks).score(make_episodes((6,)))[0].backward()
    assert network[0].weight.grad.abs().sum() > 0
    assert torch.equal(network[1].weight.grad, torch.zeros(2, 2, dtype=torch.float64))


def test_outputs_are_handed_on_without_their_graph() -> None:
    maml = MAML(MLP(6, 4, 3).double(), GradientDescent(0.1), nn.CrossEntropyLoss())
    tasks = TaskMap()

    def run(episode: Episode) -> tuple[Tensor, Tensor]:
        outputs = maml(episode.support, episode.query.x)
        return outputs, nn.functional.cross_entropy(outputs, episode.query.y)

    seen = tasks._gradients(run, list(maml.parameters()), make_episodes((6,)), [1, 2, 3])
    assert not any(tensor.requires_grad for tensor in seen)


def test_prototypes_run_batched_where_all_tasks_have_the_same_classes() -> None:
    network, features = make_network("blocks")
    episodes, prototypes = make_episodes(features), Prototypes(network)
    found, wanted = (model_of(prototypes, tasks=t).score(episodes) for t in ("batched", "loop"))
    assert error(list(found), list(wanted)) <= 1e-10
    pair = [torch.autograd.grad(loss, list(prototypes.parameters())) for loss, _ in (found, wanted)]
    assert error(*map(list, pair)) <= 1e-10
    episodes.support.y[1, 0] = -1  # a task with a row less
    with pytest.raises(NotBatchableError, match="another value"):
        model_of(prototypes, tasks="batched").score(episodes)


def test_a_value_of_all_tasks_alike_is_not_recorded_for_later_steps() -> None:
    network, features = make_network("blocks")
    with pytest.raises(NotBatchableError, match="cannot be recorded"):
        model_of(Prototypes(network), compiled=True).score(make_episodes(features))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_steps_give_the_numbers_of_the_loop_as_the_weights_change() -> None:
    network = MLP(6, 8, 3).double()
    episodes = make_episodes((6,))
    maml = MAML(network, GradientDescent(0.1, 1), nn.CrossEntropyLoss())
    compiled, loop = model_of(maml, compiled=True), model_of(maml, tasks="loop")
    for _ in range(2):
        pairs = []
        for model in (compiled, loop):
            loss, metric = model.score(episodes)
            pairs.append([loss, metric, *torch.autograd.grad(loss, list(maml.parameters()))])
        assert error(*pairs) <= 1e-10
        with torch.no_grad():
            for parameter in maml.parameters():
                parameter.add_(0.1)


def test_what_cannot_be_compiled_is_refused_in_one_line() -> None:
    network, features = make_network("dropout")
    maml = MAML(network, GradientDescent(0.1), nn.CrossEntropyLoss())
    with pytest.raises(NotBatchableError, match="random numbers") as caught:
        model_of(maml, compiled=True).score(make_episodes(features))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="tasks='loop' cannot be compiled"):
        model_of(maml, tasks="loop", compiled=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tasks": "vmap"}, "tasks='vmap' is unknown"), ({"chunk": 0}, "chunk=0 should be 1")],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of(Unbatchable(), **options)


def test_meta_batches_of_one_episode_work() -> None:
    network, features = make_network("blocks")
    episodes = make_episodes(features, tasks=1)
    assert error(results(network, episodes, tasks="batched"), results(network, episodes)) <= 1e-10
    assert isinstance(episodes, Episode)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("memory", ["graph", "steps"])
@pytest.mark.parametrize("tasks", ["loop", "batched"])
def test_the_inner_loop_follows_the_mixed_precision_of_the_trainer_if_it_should(
    tasks: str, memory: str, mixed: bool
) -> None:
    class Scale(nn.Module):  # no matrix product: those in bfloat16 are a CPU's own affair
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3] * self.weight

    seen: list[bool] = []

    class Loss(nn.CrossEntropyLoss):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(input, target)

    inner = GradientDescent(0.1, 2, mixed_precision=mixed, memory=memory)
    model = model_of(MAML(Scale(), inner, Loss()), tasks=tasks)
    episodes = make_episodes((6,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.score(Episode(*(Samples(part.x.float(), part.y) for part in episodes)))[0]
    loss.backward()
    assert set(seen) == {mixed}
