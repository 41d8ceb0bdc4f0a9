"""A detector that has learned across tables which classical anomaly scores to trust."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from ..anomaly_scores import AnomalyScores, Calibration, ShiftScores, central_rows
from ..anomaly_scores.calibration import N_TASK_DESCRIPTORS, describe_task
from ..episodes import Samples
from ..networks.score_weights import ScoreWeights
from .base import Learner, Predictor

CELLS = 2**21  # distances held at once in one representation: 16 MiB


class AmortizedDetector(Learner):
    """Amortised anomaly detection: f(context, scores of classical detectors) to an anomaly score.

    The support set is the context: normal rows, or rows of which some are anomalies; its labels
    are not looked at. Some fifty classical scores of the context's own rows and of the query
    (`AnomalyScores`) are brought to one scale (`Calibration`), and a network that was trained on
    many tables (`ScoreWeights`) makes one score of them. Nothing is trained on a new table. An
    untrained network returns the plain mean of the calibrated scores.

    A query that equals the support set is a table that judges itself, as in unsupervised
    detection: rows that seem anomalous at first sight are left out of the context (`central_rows`)
    and each row out of what it is compared with, and the network is told so.

    Args:
        max_context: Largest number of rows to compare with; of a larger support set so many are
            drawn. Time and memory grow with it.
        width: Width of the layers that weigh scores.
        row_width: Width of the layers that correct single rows; 0 for weights alone.
        transductive: Judge the rows of a query as a set: what is common among them but rare in the
            context is anomalous. Better where a query has many anomalies; a row's score depends on
            the rows beside it then. In training every other episode, at random, is judged so, so
            that one network can do both.
        seed: Seed of the rows that are drawn.

    Raises:
        ValueError: If `max_context` is smaller than 2.

    Example:
        >>> x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
        >>> context = Samples(x, torch.full((60,), -1))
        >>> query = torch.tensor([[0.0, 0.0, 0.0], [4.0, 4.0, 4.0]])
        >>> AmortizedDetector()(context, query).diff(dim=0).item() > 0
        True
    """

    def __init__(
        self,
        max_context: int = 1000,
        width: int = 32,
        row_width: int = 16,
        transductive: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if max_context < 2:
            raise ValueError(
                f"max_context={max_context} but a row is compared with at least one other: give 2 "
                "or more."
            )
        self.max_context = max_context
        self.width = width
        self.row_width = row_width
        self.transductive = transductive
        self.seed = seed
        names = (*AnomalyScores.NAMES, *ShiftScores.NAMES)
        self.network = ScoreWeights(
            len(names), Calibration.N_DESCRIPTORS, N_TASK_DESCRIPTORS, width, row_width
        )

    def forward(self, support: Samples, query: Tensor) -> Tensor:
        """Score query rows `(Q, D)` as `(Q, 1)`, against a context of rows `(S, D)`."""
        if query.shape == support.x.shape and torch.equal(query, support.x):
            self.check(support)
            return judge_itself(self.network, query, self.max_context, self.seed)
        return self.learn(support)(query)

    def learn(self, support: Samples) -> "LearnedDetector":
        """Score the context; return what scores other rows."""
        self.check(support)
        # the generator is seeded before every step, as that of dropout is
        together = bool(torch.rand(()) < 0.5) if self.training else self.transductive
        return LearnedDetector(self.network, support.x, self.max_context, self.seed, together)

    def check(self, support: Samples) -> None:
        """Refuse fewer than two rows, and inputs that are not rows of finite numbers."""
        x = support.x
        if x.ndim != 2 or len(x) < 2 or not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"got a context of shape {tuple(x.shape)} but two or more rows of finite numbers "
                "are needed: flatten the inputs, fill what is missing."
            )


class LearnedDetector:
    """What `AmortizedDetector` has learned of a context: a function of query rows.

    Scores of the context are computed when the first query asks for them, since a table that only
    judges itself never does.

    Args:
        network: Weighs the scores.
        x: Rows of shape `(S, D)`.
        max_context: Largest number of them to compare with.
        seed: Seed of the draw.
        transductive: Whether the rows of a query are judged as a set.
    """

    def __init__(
        self, network: ScoreWeights, x: Tensor, max_context: int, seed: int, transductive: bool
    ) -> None:
        self.network = network
        self.max_context = max_context
        self.seed = seed
        self.transductive = transductive
        self.places = _draw(x, max_context, seed)
        self.context = x[self.places]

    @cached_property
    def scores(self) -> AnomalyScores:
        """Classical scores of the context."""
        with torch.no_grad():
            return AnomalyScores(self.context)

    @cached_property
    def calibration(self) -> Calibration:
        """Of a query whose rows are judged one by one."""
        return Calibration(self.scores.scores)

    def __call__(self, query: Tensor) -> Tensor:
        """Score rows that are not in the context, `(Q, D)`, as `(Q, 1)`."""
        if self.transductive and len(query) > 1:
            return self._judge_together(query)

        def score(part: Tensor) -> Tensor:
            with torch.no_grad():
                scores = self.scores(part)
            return self._weigh(self.calibration, scores)

        return _in_parts(query, len(self.places), score)

    @cached_property
    def own(self) -> Tensor:
        """Scores of the rows of the context as if they were new, `(at most max_context, 1)`."""
        return self._weigh(self.calibration, self.scores.scores).to(self.context.dtype)[:, None]

    def _judge_together(self, query: Tensor) -> Tensor:
        places = _draw(query, self.max_context, self.seed)
        sample = query[places]
        with torch.no_grad():
            shift = ShiftScores(self.scores, sample)
            calibration = Calibration(torch.cat([self.scores.scores, shift.context], dim=1))
            scores = torch.cat([self.scores(sample), shift.own], dim=1)
            calibration.observe(scores)

        def score(part: Tensor) -> Tensor:
            with torch.no_grad():
                scores = torch.cat([self.scores(part), shift(part)], dim=1)
            return self._weigh(calibration, scores, together=True)

        own = self._weigh(calibration, scores, together=True).to(query.dtype)[:, None]
        return _complete(query, places, own, lambda rest: _in_parts(rest, len(self.places), score))

    def _weigh(self, calibration: Calibration, scores: Tensor, together: bool = False) -> Tensor:
        task = describe_task(self.scores.descriptors, False, together)
        return _weigh(self.network, calibration, scores, task)


def judge_itself(network: ScoreWeights, x: Tensor, max_context: int, seed: int) -> Tensor:
    """Score the rows of a table that may have anomalies, each without itself.

    Args:
        network: Weighs the scores.
        x: Rows of shape `(S, D)`.
        max_context: Largest number of them to compare with, before `central_rows` are taken.
        seed: Seed of the draw.

    Returns:
        Scores `(S, 1)`.
    """
    places = _draw(x, max_context, seed)
    with torch.no_grad():
        context = x[places]
        central = central_rows(context)
        scores = AnomalyScores(context[central])
        own = _complete(context, central, scores.scores, scores)
        calibration = Calibration(own)
    task = describe_task(scores.descriptors, True, False)

    def score(part: Tensor) -> Tensor:
        with torch.no_grad():
            found = scores(part)
        return _weigh(network, calibration, found, task)

    judged = _weigh(network, calibration, own, task).to(x.dtype)[:, None]
    return _complete(x, places, judged, lambda rest: _in_parts(rest, len(central), score))


def _weigh(network: ScoreWeights, calibration: Calibration, scores: Tensor, task: Tensor) -> Tensor:
    calibrated, ranks = calibration(scores)
    answer: Tensor = network(calibrated, ranks, calibration.descriptors, task)
    return answer


def _in_parts(query: Tensor, columns: int, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Score `(Q, D)` as `(Q, 1)`, so many rows at a time that distances to `columns` rows fit."""
    parts = torch.split(query, max(1, CELLS // columns)) if len(query) else (query,)
    return torch.cat([score(part) for part in parts])[:, None].to(query.dtype)


def _draw(x: Tensor, size: int, seed: int) -> Tensor:
    """Places of at most `size` rows, in order."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    return order[:size].sort().values.to(x.device)


def _complete(x: Tensor, places: Tensor, own: Tensor, judge: Predictor) -> Tensor:
    """Answers for all rows, of which those at `places` are known."""
    if len(places) == len(x):
        return own
    outside = torch.ones(len(x), dtype=torch.bool, device=x.device)
    outside[places] = False
    answer = own.new_zeros(len(x), own.shape[1]).index_put((places,), own)
    return answer.index_put((outside.nonzero().squeeze(1),), judge(x[outside]))
