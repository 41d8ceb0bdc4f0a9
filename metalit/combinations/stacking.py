"""The super learner's strategy where there are labels: weights that minimise a held-out loss."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ..episodes import Samples
from ..scikit import log_probabilities
from .base import Combination, Evidence, Weighting, learn_all
from .folds import HeldOut, held_out, widen
from .mixture import Loss, Mixture, spread
from .replacement import COMBINATION, replace_if_better
from .row_descriptors import RowDescriptors, split_columns
from .solvers import SOLVERS, Solver

if TYPE_CHECKING:
    from ..learners.base import Learner


class Stacking(Combination):
    """Cross-validates the base learners and weighs them by their held-out loss.

    No base learner is judged on rows that it was fitted on (van der Laan et al., 2007). The answer
    is the weighted mean of the base learners' probabilities or predictions; all of them are fitted
    once more to the whole support set for it. The weights minimise the held-out loss plus
    `penalty / S` times half the squared distance of their logits to the prior. With one softmax
    weight a base learner the loss is convex in the weights themselves (a mixture of probabilities
    under any of the losses), and softmax, which only bends the space, adds no other minimum; the
    penalty may, where the prior is far from what the rows say, so that the weights are looked for
    from the prior and from equal weights. With `row_descriptors` the logits are linear in
    descriptors of the row: feature-weighted stacking (Sill et al., 2009), inside a softmax.

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
            `PCA(2)`; fitted to the support inputs, without the side columns.
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

    n_landmarks = 3

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
        whole = isinstance(folds, Integral)
        if not whole or folds < 2 or penalty < 0 or margin < 0 or not 0 < alpha <= 1:
            raise ValueError(
                f"folds={folds}, penalty={penalty}, margin={margin}, alpha={alpha}, but folds must "
                "be at least 2, a whole number, penalty and margin at least 0, and alpha in "
                "(0, 1]: correct it."
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
    def n_descriptors(self) -> int:
        """Those of every task and one a side column."""
        return super().n_descriptors + len(self.side_columns)

    def describe(self, support: Samples) -> Tensor:
        """Describe what base learners see, and append the means of the side columns."""
        visible, side = split_columns(support.x, self.side_columns)
        described = super().describe(support._replace(x=visible))
        return torch.cat([described, side.double().mean(dim=0).to(described)])

    def visible(self, x: Tensor) -> Tensor:
        """Leave the side columns out."""
        return split_columns(x, self.side_columns)[0]

    def observe(self, learners: "Mapping[str, Learner]", support: Samples) -> Evidence:
        """Cross-validate the base learners, then fit them to all rows."""
        visible = support._replace(x=self.visible(support.x))
        with torch.no_grad():  # the gradient goes through the answers, not through the folds
            trials = held_out(learners, visible, self.folds, self.seed)
        mixture = self._mixture(support.y)
        describe = RowDescriptors(support.x, self.row_descriptors, self.side_columns, self.seed)
        return Evidence(
            predictors=learn_all(learners, visible),
            outputs=trials.outputs,
            landmarks=_landmarks(trials, mixture),
            state=(trials, describe, mixture),
        )

    def weigh(
        self,
        names: Sequence[str],
        evidence: Evidence,
        support: Samples,
        prior: Tensor,
        training: bool = False,
    ) -> Weighting:
        """Find the weights that minimise the held-out loss; keep the best single one if better."""
        trials, describe, mixture = evidence.state
        described = describe(support.x)
        rows = described[trials.rows]  # [S, J]
        by_class = self.weights == "matrix" and len(rows) > 0
        width = trials.outputs.shape[2] if by_class else 1
        constant = prior.cpu().double()[:, None, None].expand(-1, width, 1)
        slopes = constant.new_zeros(len(names), width, rows.shape[1] - 1)
        start = torch.cat([constant, slopes], dim=2)
        logits = mixture.solve(trials.outputs, trials.y, rows, start)
        report: dict[str, Any] = {"kept": COMBINATION, "why": "nothing was held out to compare"}
        # what is trained must see what its weights do
        if len(trials.rows) > 0 and not training:
            mixed = mixture.cross_fit(trials, rows, start.detach())
            losses = mixture.losses(torch.cat([trials.outputs, mixed[None]]), trials.y)
            tested = self.margin, self.alpha
            report = replace_if_better(names, losses[:-1], losses[-1], trials.fold, *tested)
        mean = mixture.weights(logits, described).mean(dim=0)  # [K, C or 1]
        report["weights"] = dict(zip(names, mean.mean(dim=1).tolist(), strict=True))
        weights = mean.squeeze(1) if width == 1 else mean
        kept = report["kept"]
        if kept == COMBINATION:
            return Weighting(weights, report, state=logits)
        only = torch.tensor([float(name == kept) for name in names]).to(mean)
        return Weighting(only.reshape(-1, *[1] * (weights.ndim - 1)).expand_as(weights), report)

    def answer(self, evidence: Evidence, weighting: Weighting, query: Tensor) -> Tensor:
        """Mix the base learners' probabilities or predictions by the weights."""
        _, describe, mixture = evidence.state
        visible = self.visible(query)
        answers = [predictor(visible) for predictor in evidence.predictors]
        if weighting.state is None:
            weights = weighting.weights.reshape(1, len(answers), -1)
        else:
            weights = mixture.weights(weighting.state, describe(query))
        weights = weights.to(answers[0])
        if not mixture.classes:
            mixed: Tensor = mixture.mix(torch.stack(answers), weights)
            return mixed
        shares = torch.stack([wide.softmax(dim=1) for wide in widen(answers)])
        return log_probabilities(mixture.mix(shares, weights), query)

    def _mixture(self, y: Tensor) -> Mixture:
        """How to mix answers for labels or targets y."""
        classes = not y.is_floating_point()
        loss = self.loss or ("cross_entropy" if classes else "squared_error")
        if not classes and loss != "squared_error":
            raise ValueError(
                f"loss={loss!r} is for classes but the episode has float targets: take "
                "squared_error, or None."
            )
        return Mixture(classes, self.link, loss, self.penalty, self.solver, self.seed)


def _landmarks(trials: HeldOut, mixture: Mixture) -> Tensor:
    """For each base learner: its held-out loss against the mean of all, its accuracy, a one."""
    if len(trials.rows) == 0:
        return trials.outputs.new_zeros(len(trials.outputs), 3)
    means = mixture.losses(trials.outputs, trials.y).mean(dim=1)
    relative = means / means.mean() - 1 if bool(means.any()) else means
    if mixture.classes:
        score = (trials.outputs.argmax(dim=2) == trials.y).double().mean(dim=1)
    else:
        score = 1 - means / spread(trials.y)
    return torch.stack([relative, score.clamp(-1, 1), torch.ones_like(means)], dim=1)
