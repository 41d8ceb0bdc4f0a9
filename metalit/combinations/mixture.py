"""Mixtures of base learners whose weights minimise a loss."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..scikit import FLOOR
from .folds import HeldOut
from .solvers import Solver, solve

Loss = Literal["cross_entropy", "brier", "squared_error"]


class Mixture(NamedTuple):
    """How the outputs of K base learners are mixed, and what their weights minimise.

    Logits have the shape `(K, C or 1, J)`: of each base learner, and class where there is one
    weight a class, linear in J row descriptors.

    Attributes:
        classes: Whether outputs are probabilities, whose mixture is normalised.
        link: From logits to weights.
        loss: What is minimised.
        penalty: Strength of the prior, in rows.
        solver: How it is minimised.
        seed: Seed of random solvers.
    """

    classes: bool
    link: Literal["softmax", "sigmoid"]
    loss: Loss
    penalty: float
    solver: Solver
    seed: int

    def weights(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Weights `(N, K, C or 1)` from logits and row descriptors `(N, J)`."""
        values = torch.einsum("kcj,sj->skc", logits, rows.to(logits))
        return values.softmax(dim=1) if self.link == "softmax" else values.sigmoid()

    def mix(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Mix outputs `(K, N, C)` by weights `(N or 1, K, C or 1)`."""
        mixed = (weights.transpose(0, 1) * outputs).sum(dim=0)
        return mixed / mixed.sum(dim=1, keepdim=True).clamp_min(FLOOR) if self.classes else mixed

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of every row, `(K, N)`, of probabilities or predictions `(K, N, C)`."""
        if not self.classes:
            return (outputs - y).square().mean(dim=2)
        if self.loss == "cross_entropy":
            right = outputs.gather(2, y.expand(len(outputs), -1)[..., None])[..., 0]
            return -right.clamp_min(FLOOR).log()
        return (outputs - one_hot(y, outputs.shape[2]).to(outputs)).square().sum(dim=2)

    def solve(self, outputs: Tensor, y: Tensor, rows: Tensor, start: Tensor) -> Tensor:
        """Return the logits that minimise the penalised loss, differentiable in `start`.

        The loss is that of targets with variance 1, so that the penalty weighs the same in any
        unit.

        Args:
            outputs: Held-out outputs `(K, N, C)`.
            y: Labels `(N,)` or targets `(N, d)`.
            rows: Row descriptors `(N, J)`.
            start: Logits that the penalty draws to, float64.
        """
        if len(rows) == 0:
            return start
        first, strength = start.detach().flatten(), self.penalty / len(rows)
        unit = 1.0 if self.classes else spread(y)

        def objective(point: Tensor) -> Tensor:
            weights = self.weights(point.reshape(start.shape), rows)
            loss = self.losses(self.mix(outputs, weights)[None], y).mean() / unit
            return loss + 0.5 * strength * (point - first).square().sum()

        found = solve(objective, first, self.solver, self.seed)
        if bool(first.any()):  # far from what the rows say, a prior may hold a minimum of its own
            other = solve(objective, torch.zeros_like(first), self.solver, self.seed)
            found = min(found, other, key=lambda point: float(objective(point)))
        if start.requires_grad:
            # implicit differentiation: the value stays, d found / d start = strength / Hessian
            hessian = torch.func.jacrev(torch.func.jacrev(objective))(found)
            values, vectors = torch.linalg.eigh(hessian)
            shares = strength / values.clamp_min(max(strength, FLOOR))
            moved = vectors.T @ (start.flatten() - first)
            found = found + vectors @ (shares * moved)
        return found.reshape(start.shape)

    def cross_fit(self, trials: HeldOut, rows: Tensor, start: Tensor) -> Tensor:
        """Mix the held-out outputs of each fold by the weights that the other folds give."""
        mixed = torch.empty_like(trials.outputs[0])
        for fold in set(trials.fold.tolist()):
            out = trials.fold == fold
            logits = self.solve(trials.outputs[:, ~out], trials.y[~out], rows[~out], start)
            mixed[out] = self.mix(trials.outputs[:, out], self.weights(logits, rows[out]))
        return mixed


def spread(y: Tensor) -> float:
    """The mean variance of targets `(N, d)`; 1 if they do not vary."""
    variance = float(y.var(dim=0, correction=0).mean())
    return variance if variance > 0 else 1.0
