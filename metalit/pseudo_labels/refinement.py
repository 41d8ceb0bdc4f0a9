"""Pseudo-labels made better, round by round, by what a base learner learns from them."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from ..episodes import Samples
from ..scikit import FLOOR
from .number import silhouette
from .rules import Groups, assign
from .structure import Covariance, fit_structure

if TYPE_CHECKING:  # learners are made of this, not the other way round
    from ..learners.base import Learner

Keep = Literal["stability", "validity", "labels"]

_SETTLED = 0.999  # adjusted Rand index of two rounds that says that labels have settled
_CONFIDENT = math.log(0.5)


class RefusalError(ValueError):
    """A base learner that cannot learn from pseudo-labels."""


class Opinions(NamedTuple):
    """What is said about S rows by learners that were not fitted to their pseudo-labels.

    Attributes:
        answers: Log-probabilities of the base learner, of shape `(S, K)`.
        structure: Log-probabilities from the distance to the clusters, of shape `(S, K)`.
    """

    answers: Tensor
    structure: Tensor


class Refinement(NamedTuple):
    """The pseudo-labels that were kept.

    Attributes:
        labels: Of shape `(S,)` in `[0, K)`, -1 for noise.
        temperature: Temperature of the structure, as given or as fitted to these labels.
        report: Rounds with their scores, what was kept and why, as JSON primitives.
    """

    labels: Tensor
    temperature: float
    report: dict[str, Any]


class Refiner(NamedTuple):
    """How pseudo-labels are refined.

    Each round cross-fits the base learner and the cluster structure: every row is judged by those
    that were fitted to other rows. A row keeps its label while that has at least half of the
    probability; another takes the best label that the rules allow. Centres and covariances move
    with the labels. It ends when labels settle, a cluster empties, or the rounds are over, and the
    best round is kept; the clusterer's own partition is round 0.

    Attributes:
        rounds: Largest number of relabellings.
        folds: Folds of the cross-fitting.
        covariance: See `fit_structure`.
        keep: What the best round is best in. "stability": the base learner, fitted to other rows,
            agrees with the labels (adjusted Rand index); "validity": silhouette; "labels":
            agreement with the labels of the support set, where it has some.
        temperature: Of the structure; None fits it to the confident rows of each round.
    """

    rounds: int
    folds: int
    covariance: Covariance
    keep: Keep
    temperature: float | None

    def __call__(
        self,
        learner: "Learner",
        support: Samples,
        rows: Tensor,
        labels: Tensor,
        clusters: int,
        groups: Groups,
        generator: torch.Generator,
    ) -> Refinement:
        """Refine pseudo-labels.

        Args:
            learner: The base learner.
            support: The support set; its labels are used by "labels" alone.
            rows: Its embedding of shape `(S, D)`, float64.
            labels: The clusterer's partition, of shape `(S,)`, -1 for noise.
            clusters: Number K of clusters; some may have no rows.
            groups: What the rules say.
            generator: Where folds come from.
        """
        score = self._score(support, rows)
        history: list[
            tuple[float, Tensor, float, float]
        ] = []  # score, labels, temperature, changed
        changed, end = 0.0, f"all {self.rounds} rounds were done"
        for _ in range(self.rounds + 1):
            try:
                opinions = self.cross_fit(learner, support.x, rows, labels, clusters, generator)
            except RefusalError as error:
                end = f"the base learner refused: {error}"
                break
            temperature = self.temperature or fit_temperature(opinions, labels)
            history.append((score(labels, opinions), labels, temperature, changed))
            new = assign(combine(opinions, temperature), groups)
            if int((new.bincount() > 0).sum()) < int((labels[labels >= 0].bincount() > 0).sum()):
                end = "a cluster lost all its rows"
                break
            if torch.equal(new, labels) or adjusted_rand_score(labels, new) >= _SETTLED:
                end = "the labels settled"
                break
            changed = float((new != labels).double().mean())
            labels = new
        if not history:
            return Refinement(labels, self.temperature or 1.0, {"rounds": [], "end": end})
        best = max(range(len(history)), key=lambda number: history[number][0])
        _, labels, temperature, _ = history[best]
        report = {
            "rounds": [
                {"changed": row[3], self.keep: row[0], "temperature": row[2]} for row in history
            ],
            "end": end,
            "kept": best,
            "why": _why(self.keep, [row[0] for row in history], best),
        }
        return Refinement(labels, temperature, report)

    def cross_fit(
        self,
        learner: "Learner",
        x: Tensor,
        rows: Tensor,
        labels: Tensor,
        clusters: int,
        generator: torch.Generator,
    ) -> Opinions:
        """Judge every row by learners that were fitted to the other folds."""
        fold = stratified_folds(labels, self.folds, generator)
        shape = len(labels), clusters
        answers, structure = (rows.new_full(shape, math.log(FLOOR)) for _ in range(2))
        for number in range(min(self.folds, len(labels))):
            fit, held_out = (fold != number) & (labels >= 0), fold == number
            if not bool(fit.any()):
                continue
            part = Samples(x[fit.to(x.device)], labels[fit].to(x.device))
            try:
                outputs = learner.learn(part)(x[held_out.to(x.device)]).detach().to(rows)
            except ValueError as error:  # classifiers refuse classes of one row
                raise RefusalError(str(error).splitlines()[0]) from error
            answers[held_out] = to_log_probabilities(outputs, clusters)
            of_fold = fit_structure(rows[fit], labels[fit], clusters, self.covariance)
            structure[held_out] = of_fold(rows[held_out]).log_softmax(dim=1)
        return Opinions(answers, structure)

    def _score(self, support: Samples, rows: Tensor) -> Callable[[Tensor, Opinions], float]:
        """Return what tells how good the labels of a round are; higher is better."""
        if self.keep == "validity":
            return lambda labels, _: silhouette(rows.numpy(), labels.numpy())
        if self.keep == "stability":
            return lambda labels, opinions: _agreement(labels, opinions.answers.argmax(dim=1))
        truth = support.y.cpu()
        if support.y.is_floating_point() or int((truth >= 0).sum()) < 2:
            raise ValueError(
                'keep="labels" needs the labels of 2 rows or more but the support set has fewer: '
                'label some, or take keep="stability".'
            )
        return lambda labels, _: _agreement(truth, labels)


def combine(opinions: Opinions, temperature: float | Tensor) -> Tensor:
    """Log-probabilities from the base learner and the cluster structure."""
    return (opinions.answers + opinions.structure / temperature).log_softmax(dim=1)


def fit_temperature(opinions: Opinions, labels: Tensor) -> float:
    """Fit the temperature of the structure to the likelihood of the confident rows' labels.

    Confident rows are those whose label has half of the probability at a temperature of 1.

    Returns:
        A number in [0.05, 400]; 1 where no row is confident.
    """
    own = labels.clamp_min(0)[:, None]
    confident = (combine(opinions, 1.0).gather(1, own)[:, 0] >= _CONFIDENT) & (labels >= 0)
    if not bool(confident.any()):
        return 1.0
    known = Opinions(*(part[confident] for part in opinions))

    def loss(log_temperature: float) -> float:
        outputs = combine(known, math.exp(log_temperature))
        return -float(outputs.gather(1, own[confident]).mean())

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(400)), method="bounded")
    return math.exp(float(found.x))


def to_log_probabilities(outputs: Tensor, clusters: int) -> Tensor:
    """Bring logits `(N, C)` of a base learner to `(N, clusters)` log-probabilities."""
    missing = clusters - outputs.shape[1]
    if missing < 0:
        return outputs[:, :clusters].log_softmax(dim=1)
    floor = outputs.new_full((len(outputs), missing), math.log(FLOOR))
    return torch.cat([outputs.log_softmax(dim=1), floor], dim=1)


def stratified_folds(labels: Tensor, folds: int, generator: torch.Generator) -> Tensor:
    """Number of the fold of each row; each label is spread over the folds evenly."""
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].sort(stable=True).indices]
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(labels)) % folds
    return fold


def _agreement(first: Tensor, second: Tensor) -> float:
    """Adjusted Rand index of the rows that have a label in both."""
    both = (first >= 0) & (second >= 0)
    return float(adjusted_rand_score(first[both], second[both]))


def _why(keep: Keep, scores: list[float], best: int) -> str:
    if len(scores) == 1:
        return "no round changed the clusterer's partition"
    if best == 0:
        later = max(scores[1:])
        return f"no round was better in {keep}: {scores[0]:.4f} before, at most {later:.4f} after"
    return f"{keep} rose from {scores[0]:.4f} to {scores[best]:.4f}"
