import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from metalit import Episode, MetaLearner, Samples
from metalit.inner_loops import GradientDescent, InnerLoop, Params, gradient
from metalit.learners import MAML
from metalit.metrics import Accuracy


def quadratic(seed: int, size: int = 3) -> tuple[Tensor, Tensor]:
    """A positive definite matrix H and a centre c, of the loss (w - c)' H (w - c) / 2."""
    generator = torch.Generator().manual_seed(seed)
    root, centre = (
        torch.randn(size, n, generator=generator, dtype=torch.float64) for n in (size, 1)
    )
    return root @ root.T / size + torch.eye(size, dtype=torch.float64), centre


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), steps=st.integers(0, 6), lr=st.floats(0.001, 0.2))
def test_steps_on_a_quadratic_contract_towards_its_centre(seed: int, steps: int, lr: float) -> None:
    hessian, centre = quadratic(seed)
    start = torch.ones_like(centre)

    def loss(params: Params) -> Tensor:
        away = params["w"] - centre
        return 0.5 * (away.T @ hessian @ away).squeeze()

    found = GradientDescent(lr, steps)(loss, {"w": start})["w"]
    contraction = torch.eye(3, dtype=torch.float64) - lr * hessian
    wanted = centre + torch.linalg.matrix_power(contraction, steps) @ (start - centre)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_jacobian_of_the_fast_parameters_is_the_closed_form(
    first_order: bool, steps: int
) -> None:
    hessian, centre = quadratic(0)
    loop = GradientDescent(0.1, steps, first_order=first_order)

    def adapt(start: Tensor) -> Tensor:
        def loss(params: Params) -> Tensor:
            away = params["w"] - centre[:, 0]
            return 0.5 * away @ hessian @ away

        return loop(loss, {"w": start})["w"]

    start = torch.ones(3, dtype=torch.float64)
    found = torch.autograd.functional.jacobian(adapt, start)
    identity = torch.eye(3, dtype=torch.float64)
    contraction = identity if first_order else identity - 0.1 * hessian
    torch.testing.assert_close(found, torch.linalg.matrix_power(contraction, steps))


def test_all_parameters_step_at_once() -> None:
    params = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
    found = GradientDescent(lr=0.1)(lambda p: p["a"] * p["b"], params)
    torch.testing.assert_close(found, {"a": torch.tensor(1.7), "b": torch.tensor(2.8)})


def test_a_first_order_loop_keeps_no_graph_of_the_inner_gradient() -> None:
    start = torch.ones(3, requires_grad=True)
    fast = GradientDescent(0.1, 5, first_order=True)(lambda p: (p["w"] ** 4).sum(), {"w": start})
    (gradient,) = torch.autograd.grad(fast["w"].sum(), start)
    assert torch.equal(gradient, torch.ones(3))


def test_evaluation_takes_eval_steps_where_given() -> None:
    def loss(params: Params) -> Tensor:
        return params["w"].square() / 2

    start = {"w": torch.tensor(1.0)}
    loop = GradientDescent(lr=0.5, steps=1, eval_steps=3)
    assert loop(loss, start)["w"] == 0.5
    assert loop.eval()(loss, start)["w"] == 0.125
    assert GradientDescent(lr=0.5, steps=2).eval()(loss, start)["w"] == 0.25
    assert GradientDescent(lr=0.5, eval_steps=0).eval()(loss, start)["w"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.0}, r"lr=0\.0 of the inner loop must be positive"),
        ({"lr": -1.0}, r"lr=-1\.0 of the inner loop must be positive"),
        ({"lr": 0.1, "steps": -1}, r"steps=-1 of the inner loop must be 0 or more"),
        ({"lr": 0.1, "eval_steps": -2}, r"eval_steps=-2 of the inner loop must be 0 or more"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientDescent(**arguments)


class SignDescent(InnerLoop):
    """The inner loop of the README."""

    def forward(self, loss_fn, params):
        gradients = gradient(loss_fn, params)
        return {name: params[name] - 0.1 * gradients[name].sign() for name in params}


def test_an_inner_loop_written_for_one_task_runs_for_all_tasks_at_once() -> None:
    torch.manual_seed(0)
    maml = MAML(nn.Linear(2, 3).double(), SignDescent(), nn.CrossEntropyLoss())
    x, y = torch.randn(4, 6, 2, dtype=torch.float64), torch.arange(3).repeat(4, 2)
    episodes = Episode(Samples(x, y), Samples(x + 1, y))
    losses = [
        MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy(), tasks=tasks).train().score(episodes)[0]
        for tasks in ("batched", "loop")
    ]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, list(maml.parameters())) for loss in losses]
    torch.testing.assert_close(*gradients)
