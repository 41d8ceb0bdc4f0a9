"""The super learner's strategy where there are labels: weights that minimise a held-out loss."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from scipy.stats import ttest_rel
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..episodes import Samples
from ..scikit import FLOOR, as_table, log_probabilities, seeded_clone
from .base import Combination, Evidence, Weighting
from .folds import HeldOut, held_out
from .solvers import SOLVERS, Solver, solve

if TYPE_CHECKING:
    from ..learners.base import Learner

Loss = Literal["cross_entropy", "brier", "squared_error"]


class Stacking(Combination):
    """Cross-validates the base learners and weighs them by their held-out loss.

    No base learner is judged on rows that it was fitted on (van der Laan et al., 2007). The answer
    is the weighted mean of the base learners' probabilities or predictions; all of them are fitted
    once more to the whole support set for it. The weights minimise the held-out loss plus
    `penalty / S` times half the squared distance of their logits to the prior, which makes them
    unique; the loss is convex in the weights themselves (a mixture of probabilities under any of
    the losses), so that softmax, which only bends the space, adds no other minimum. With
    `row_descriptors` the logits are linear in descriptors of the row: feature-weighted stacking
    (Sill et al., 2009), inside a softmax.

    In evaluation the combination replaces the best single base learner only if it is better: if
    its held-out loss, with both the weights and the single learner chosen on the other folds, is
    lower by more than `margin` on the mean of all rows, with a p-value below `alpha` of the
    one-sided paired t-test over rows (which takes rows as independent, as cross-validation does
    not quite leave them). With `alpha=0.05` the answer was on no table of the benchmark
    significantly worse than that of the best single learner; `alpha=1` has the lower mean loss, and
    suits support sets that are too small to show anything.

    Differs from the paper: the weights are drawn to a prior, and the gradient of the outer loop
    reaches base learners through their answers, not through the cross-validation.

    Args:
        weights: "vector", one weight a base learner, or "matrix", one a base learner and class.
        link: From logits to weights: "softmax" (they add up to 1) or "sigmoid" (each in (0, 1));
            probabilities are normalised after it, regression predictions are not.
        loss: "cross_entropy" or "brier" (the squared error of probabilities) for classes,
            "squared_error" for targets. None takes the first or the last, by the labels.
        solver: See `metalit.combinations.solvers`; all find the same weights, "lbfgs" in the
            shortest time.
        penalty: Strength of the prior, in rows: 0 trusts the held-out loss alone.
        folds: Folds of the cross-validation, stratified by class; fewer where a class is smaller.
        row_descriptors: Transformer from rows to the descriptors that weights depend on, such as
            `PCA(2)`; fitted to the support inputs.
        side_columns: Columns of x that are the user's own side table, of order 1: weights depend on
            them, and base learners do not see them. Inside a task it is each row's value that
            counts; the gate sees their means, so that a column that is constant within a task
            describes the task.
        margin: How much lower the held-out loss must be, in units of the loss.
        alpha: Level of the test; 1 lets the mean alone decide.
        seed: Seed of the folds and of random solvers.

    Raises:
        ValueError: If a name is unknown, `folds` is smaller than 2, or a number out of range.

    References:
        Super Learner, https://doi.org/10.2202/1544-6115.1309
        Feature-Weighted Linear Stacking, https://arxiv.org/abs/0911.0460
    """

    landmarks = 3

    def __init__(
        self,
        weights: Literal["vector", "matrix"] = "vector",
        link: Literal["softmax", "sigmoid"] = "softmax",
        loss: Loss | None = None,
        solver: Solver = "lbfgs",
        penalty: float = 0.3,
        folds: int = 5,
        row_descriptors: BaseEstimator | None = None,
        side_columns: Sequence[int] = (),
        margin: float = 0.0,
        alpha: float = 0.05,
        seed: int = 0,
    ) -> None:
        for name, value, known in (
            ("weights", weights, ("vector", "matrix")),
            ("link", link, ("softmax", "sigmoid")),
            ("loss", loss, (None, *get_args(Loss))),
            ("solver", solver, SOLVERS),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown: choose from {known}.")
        if folds < 2 or penalty < 0 or margin < 0 or not 0 < alpha <= 1:
            raise ValueError(
                f"folds={folds}, penalty={penalty}, margin={margin}, alpha={alpha}, but folds must "
                "be at least 2, penalty and margin at least 0, and alpha in (0, 1]: correct it."
            )
        self.weights = weights
        self.link = link
        self.loss = loss
        self.solver = solver
        self.penalty = penalty
        self.folds = folds
        self.row_descriptors = row_descriptors
        self.side_columns = side_columns
        self.margin = margin
        self.alpha = alpha
        self.seed = seed

    @property
    def descriptors(self) -> int:
        """Those of every task and one a side column."""
        return super().descriptors + len(self.side_columns)

    def describe(self, support: Samples) -> Tensor:
        """Describe what base learners see, and append the means of the side columns."""
        visible, side = self._split(support.x)
        return torch.cat([super().describe(support._replace(x=visible)), side.mean(dim=0)])

    def visible(self, x: Tensor) -> Tensor:
        """Leave the side columns out."""
        return self._split(x)[0]

    def observe(self, learners: "Mapping[str, Learner]", support: Samples) -> Evidence:
        """Cross-validate the base learners, then fit them to all rows."""
        visible = support._replace(x=self.visible(support.x))
        with torch.no_grad():  # the gradient goes through the answers, not through the folds
            trials = held_out(learners, visible, self.folds, self.seed)
        losses = _rows_loss(trials.outputs, trials.y, self._loss_of(support.y))  # [K, S]
        return Evidence(
            predictors=[learner.learn(visible) for learner in learners.values()],
            outputs=trials.outputs,
            landmarks=_landmarks(trials, losses),
            state=(trials, self._describer(support.x), support.y.is_floating_point()),
        )

    def weigh(
        self, names: Sequence[str], evidence: Evidence, support: Samples, prior: Tensor
    ) -> Weighting:
        """Find the weights that minimise the held-out loss; keep the best single one if better."""
        trials, describe, _ = evidence.state
        rows = describe(support.x)[trials.rows]  # [S, J]
        start = prior.new_zeros(len(names), self._width(trials), rows.shape[1])
        start = torch.cat([prior[:, None, None].expand(*start.shape[:2], 1), start[..., 1:]], dim=2)
        name = self._loss_of(support.y)
        logits = self._solve(evidence.outputs, trials.y, rows, start, name)
        report: dict[str, Any] = {"kept": "combination", "why": "nothing was held out to compare"}
        # while the gate is trained it must see what its weights do
        if len(trials.rows) > 0 and not prior.requires_grad:
            mixed = self._cross_fit(evidence.outputs, trials, rows, start, name)
            losses = _rows_loss(evidence.outputs, trials.y, name)
            combined = _rows_loss(mixed[None], trials.y, name)[0]
            report = self._compare(names, losses, combined, trials.fold)
        kept = report["kept"]
        mean = self._weights(logits, describe(support.x)).mean(dim=0)  # [K, C or 1]
        report["weights"] = dict(zip(names, mean.mean(dim=1).tolist(), strict=True))
        weights = mean.squeeze(1) if mean.shape[1] == 1 else mean
        if kept == "combination":
            return Weighting(weights, report, state=logits)
        only = torch.tensor([float(name == kept) for name in names]).to(mean)
        return Weighting(only.reshape(-1, *[1] * (weights.ndim - 1)).expand_as(weights), report)

    def answer(self, evidence: Evidence, weighting: Weighting, query: Tensor) -> Tensor:
        """Mix the base learners' probabilities or predictions by the weights."""
        _, describe, regression = evidence.state
        visible = self.visible(query)
        answers = [predictor(visible) for predictor in evidence.predictors]
        if weighting.state is None:
            weights = weighting.weights.reshape(1, len(answers), -1)
        else:
            weights = self._weights(weighting.state, describe(query))
        if regression:
            return torch.einsum(
                "skc,ksc->sc",
                weights.expand(len(query), -1, -1).to(answers[0]),
                torch.stack(answers),
            )
        shares = torch.stack([a.softmax(dim=1) for a in _widen(answers)])
        return log_probabilities(self._mix(shares, weights.to(shares), classes=True), query)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What base learners see, and the side table `(N, J)`."""
        if not self.side_columns:
            return x, x.new_zeros(len(x), 0)
        table, side = x.flatten(1), list(self.side_columns)
        others = [column for column in range(table.shape[1]) if column not in side]
        return table[:, others], table[:, side]

    def _describer(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function from inputs to row descriptors `(N, 1 + J)`, the first of them 1."""
        visible, side = self._split(x)
        described = side if self.row_descriptors is None else visible
        transformers: list[Any] = []
        table = as_table(described)
        if self.row_descriptors is not None:
            transformers.append(seeded_clone(self.row_descriptors, self.seed).fit(table))
            table = transformers[0].transform(table)
        if table.shape[1] > 0:
            transformers.append(StandardScaler().fit(table))
        return partial(_describe_rows, self, transformers)

    def _width(self, trials: HeldOut) -> int:
        return trials.outputs.shape[2] if self.weights == "matrix" else 1

    def _loss_of(self, y: Tensor) -> Loss:
        if self.loss is None:
            return "squared_error" if y.is_floating_point() else "cross_entropy"
        if y.is_floating_point() and self.loss != "squared_error":
            raise ValueError(
                f"loss={self.loss!r} is for classes but the episode has float targets: take "
                "squared_error, or None."
            )
        return self.loss

    def _weights(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Weights `(N, K, C or 1)` from logits `(K, C or 1, J)` and row descriptors `(N, J)`."""
        values = torch.einsum("kcj,sj->skc", logits, rows.to(logits))
        return values.softmax(dim=1) if self.link == "softmax" else values.sigmoid()

    def _mix(self, outputs: Tensor, weights: Tensor, classes: bool) -> Tensor:
        """Mix outputs `(K, N, C)` by weights `(N or 1, K, C or 1)`."""
        mixed = (weights.transpose(0, 1) * outputs).sum(dim=0)
        return mixed / mixed.sum(dim=1, keepdim=True).clamp_min(FLOOR) if classes else mixed

    def _solve(self, outputs: Tensor, y: Tensor, rows: Tensor, start: Tensor, name: Loss) -> Tensor:
        """Return the logits that minimise the penalised loss, differentiable in `start`."""
        if len(rows) == 0:
            return start
        rows, first = rows.double(), start.detach().double().flatten()
        classes, strength = not y.is_floating_point(), self.penalty / len(rows)

        def objective(point: Tensor) -> Tensor:
            weights = self._weights(point.reshape(start.shape), rows)
            loss = _rows_loss(self._mix(outputs, weights, classes)[None], y, name).mean()
            return loss + 0.5 * strength * (point - first).square().sum()

        found = solve(objective, first, self.solver, self.seed)
        if start.requires_grad:
            # implicit differentiation: the value stays, d found / d start = strength / Hessian
            hessian = torch.func.jacrev(torch.func.jacrev(objective))(found)
            values, vectors = torch.linalg.eigh(hessian)
            shares = strength / values.clamp_min(max(strength, FLOOR))
            moved = vectors.T @ (start.double().flatten() - first)
            found = found + vectors @ (shares * moved)
        return found.reshape(start.shape).to(start)

    def _cross_fit(
        self, outputs: Tensor, trials: HeldOut, rows: Tensor, start: Tensor, name: Loss
    ) -> Tensor:
        """Mix the held-out outputs of each fold by the weights that the other folds give."""
        mixed = torch.empty_like(outputs[0])
        for fold in set(trials.fold.tolist()):
            out = trials.fold == fold
            logits = self._solve(outputs[:, ~out], trials.y[~out], rows[~out], start, name)
            weights = self._weights(logits, rows[out]).to(outputs)
            classes = not trials.y.is_floating_point()
            mixed[out] = self._mix(outputs[:, out], weights, classes)
        return mixed

    def _compare(
        self, names: Sequence[str], losses: Tensor, combined: Tensor, fold: Tensor
    ) -> dict[str, Any]:
        """Decide by the held-out losses, `(K, S)` and `(S,)`, what is kept, and say why."""
        means = losses.mean(dim=1)
        best = int(means.argmin())
        # like the weights, the single learner is chosen without the fold that it is judged on
        single = torch.empty_like(combined)
        for number in set(fold.tolist()):
            out = fold == number
            single[out] = losses[int(losses[:, ~out].mean(dim=1).argmin()), out]
        gain, p = float(single.mean() - combined.mean()), 1.0
        if len(combined) > 1 and bool((combined != single).any()):
            test = ttest_rel(combined.numpy(), single.numpy(), alternative="less")
            p = float(test.pvalue)
        wins = gain > self.margin and (self.alpha == 1 or p < self.alpha)
        return {
            "held_out_loss": dict(zip(names, means.tolist(), strict=True)),
            "combined_loss": float(combined.mean()),
            "best": names[best],
            "gain": gain,
            "p_value": p,
            "kept": "combination" if wins else names[best],
            "why": (
                f"its held-out loss {float(combined.mean()):.4g} "
                f"{'is' if wins else 'is not'} lower than {float(single.mean()):.4g} of the best "
                f"single learner ({names[best]}) by more than {self.margin:g} "
                f"(p = {p:.2g}, alpha = {self.alpha:g})"
            ),
        }


def _describe_rows(stacking: Stacking, transformers: Sequence[Any], x: Tensor) -> Tensor:
    """Descriptors of rows, `(N, 1 + J)`, the first of them 1."""
    visible, side = stacking._split(x)
    table = as_table(side if stacking.row_descriptors is None else visible)
    for transformer in transformers:
        table = transformer.transform(table)
    ones = x.new_ones(len(x), 1, dtype=torch.float64)
    return ones if not transformers else torch.cat([ones, torch.as_tensor(table).to(ones)], dim=1)


def _widen(answers: Sequence[Tensor]) -> list[Tensor]:
    """Give all answers as many columns as the widest; the added ones have no probability."""
    width = max(answer.shape[1] for answer in answers)
    pad = torch.nn.functional.pad
    return [pad(a, (0, width - a.shape[1]), value=-1e4) for a in answers]


def _rows_loss(outputs: Tensor, y: Tensor, name: Loss) -> Tensor:
    """Loss of every row, `(K, N)`, of probabilities or predictions `(K, N, C)`."""
    if y.is_floating_point():
        return (outputs - y).square().mean(dim=2)
    if name == "cross_entropy":
        right = outputs.gather(2, y.expand(len(outputs), -1)[..., None])[..., 0]
        return -right.clamp_min(FLOOR).log()
    target = torch.nn.functional.one_hot(y, outputs.shape[2]).to(outputs)
    return (outputs - target).square().sum(dim=2)


def _landmarks(trials: HeldOut, losses: Tensor) -> Tensor:
    """For each base learner: its held-out loss against the mean of all, its accuracy, a one."""
    if len(trials.rows) == 0:
        return trials.outputs.new_zeros(len(trials.outputs), 3)
    means = losses.mean(dim=1)
    relative = means / means.mean().clamp_min(FLOOR) - 1
    if trials.y.is_floating_point():
        score = 1 - means / trials.y.var(dim=0, correction=0).mean().clamp_min(FLOOR)
    else:
        score = (trials.outputs.argmax(dim=2) == trials.y).double().mean(dim=1)
    return torch.stack([relative, score.clamp(-1, 1), torch.ones_like(means)], dim=1)
