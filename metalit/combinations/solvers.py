"""Ways to find the weights that minimise a held-out loss, by name."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor
from torch.func import grad_and_value, vmap

Solver = Literal[
    "lbfgs", "bfgs", "gradient_descent", "random_search", "monte_carlo", "differential_evolution"
]
"""L-BFGS, BFGS, gradient descent with Adam's step sizes, a random search around the best point
so far with shrinking steps, Monte Carlo minimisation (basin hopping), and a genetic search."""

SOLVERS: tuple[str, ...] = get_args(Solver)

Objective = Callable[[Tensor], Tensor]

_RADIUS = 8.0  # how far from the start a logit is looked for: weights from 1 to 1/3000


def solve(objective: Objective, start: Tensor, solver: Solver, random_state: int = 0) -> Tensor:
    """Minimise an objective.

    Args:
        objective: Maps a vector of shape `(P,)`, float64, to a scalar; made of torch functions.
        start: First vector, of shape `(P,)`, float64.
        solver: Which algorithm.
        random_state: Seed of the random ones.

    Returns:
        The best vector found, of shape `(P,)`; never worse than `start`.
    """
    start = start.detach()
    value_and_gradient = grad_and_value(objective)

    def numpy_objective(point: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        gradient, value = value_and_gradient(torch.from_numpy(point))
        return float(value), gradient.numpy()

    first, random = start.numpy(), np.random.default_rng(random_state)
    match solver:
        case "lbfgs" | "bfgs":
            method = {"lbfgs": "L-BFGS-B", "bfgs": "BFGS"}[solver]
            # tight: what is differentiated implicitly has to be the minimum
            exact = {"gtol": 1e-9, **({"ftol": 1e-15} if solver == "lbfgs" else {})}
            found = optimize.minimize(
                numpy_objective, first, jac=True, method=method, options=exact
            ).x
        case "gradient_descent":
            found = _descend(value_and_gradient, start).numpy()
        case "random_search":
            found = _search(objective, start, random).numpy()
        case "monte_carlo":
            local = {"jac": True, "method": "L-BFGS-B"}
            found = optimize.basinhopping(
                numpy_objective, first, niter=20, minimizer_kwargs=local, rng=random
            ).x
        case "differential_evolution":
            found = _evolve(objective, first, random)
    best = torch.from_numpy(np.asarray(found, dtype=np.float64))
    return best if float(objective(best)) < float(objective(start)) else start


def _descend(value_and_gradient: Callable[[Tensor], Any], start: Tensor) -> Tensor:
    point = start.clone()
    optimizer = torch.optim.Adam([point], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=300)
    for _ in range(300):
        point.grad = value_and_gradient(point)[0]
        optimizer.step()
        schedule.step()
    return point


def _search(objective: Objective, start: Tensor, random: np.random.Generator) -> Tensor:
    """Keep the best of many normal steps; the steps shrink, as one round after the other finds."""
    best, step = start, _RADIUS / 4
    for _ in range(60):
        points = best + step * torch.from_numpy(random.standard_normal((64, len(start))))
        points = torch.cat([best[None], points])
        best = points[vmap(objective)(points).argmin()]
        step *= 0.88
    return best


def _evolve(objective: Objective, first: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    def batched(points: NDArray[Any]) -> NDArray[Any]:  # [P, candidates]
        return np.asarray(vmap(objective)(torch.from_numpy(np.ascontiguousarray(points.T))).numpy())

    bounds = [(value - _RADIUS, value + _RADIUS) for value in first]
    found = optimize.differential_evolution(
        batched,
        bounds,
        x0=first,
        maxiter=300,
        tol=1e-8,
        polish=False,
        vectorized=True,
        updating="deferred",
        rng=random,
    )
    return np.asarray(found.x)
