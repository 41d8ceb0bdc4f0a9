"""A meta-learned anomaly detector for any table, in scikit-learn's way and with PyOD's names."""

from functools import cache, cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from ..episodes import unlabelled
from ..learners import AmortizedDetector
from ..meta_learner import MetaLearner
from ..scikit import one_thread
from ._arguments import check_share, check_whole
from ._columns import read_table
from ._encoding import TableEncoder
from ._weights import load_learner

Scores = NDArray[np.float64]
PAIRS = 250_000_000  # comparisons of a table with its context: above, the context is smaller
FEWEST = 100  # rows of a context


# scikit-learn has no types to be seen by mypy
class MetaDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds anomalies in a table by what a network has learned on thousands of other tables.

    Some sixty classical anomaly scores of each row are weighed by `AmortizedDetector`, whose
    weights ship with the package; nothing is trained on the user's rows. `fit` takes normal rows,
    and then scores new ones, or a table that has anomalies in it, and then scores its own rows.
    Columns may be numbers of any scale, text or dates, and have missing values (see
    `TableEncoder`).

    A row that is equal to a row of `fit` is taken for that row: its score is the one that it got
    in `fit`, compared with all rows but itself. Both kinds of scores are on one scale, on which
    the rows of `fit` have median 0 and interquartile range 1.

    scikit-learn and PyOD disagree about signs. What both name has scikit-learn's meaning:
    `predict` gives 1 and -1 and `decision_function` is negative for outliers. What only PyOD names
    has PyOD's: `decision_scores_`, `labels_` (1 for outliers), `threshold_`, `predict_proba`.

    Args:
        contamination: Share of the rows of `fit` that are taken for outliers, in (0, 0.5]. It
            sets the threshold and changes no score.
        transductive: Score the rows of a query as a set: what is common among them but rare in
            `fit` is anomalous. Finds more where new rows have many anomalies. The score of a row
            then depends on the rows that are scored with it.
        max_context: Largest number of rows of `fit` to compare with; fewer where this makes more
            than 250 million comparisons, so that a million rows take minutes: 250 then.
        random_state: Seed of the draw of these.
        weights: Name of weights that ship with the package, path of a checkpoint of a run of
            `configs/detector.yaml` (ending in .ckpt), or None for the plain mean of the calibrated
            scores, which has learned nothing.

    Attributes:
        decision_scores_: Scores of the rows of `fit`, higher for more anomalous; like all that
            follows from them it is computed when it is first asked for.
        labels_: 1 for the rows of `fit` that are outliers, 0 for the others.
        threshold_: Score above which a row is an outlier.
        offset_: The same for `score_samples`: `-threshold_`.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> detector = MetaDetector(contamination=0.02).fit(x)
        >>> detector.predict([[0.0, 0.0], [5.0, 5.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        contamination: float = 0.1,
        transductive: bool = False,
        max_context: int = 1000,
        random_state: int = 0,
        weights: str | None = "detector",
    ) -> None:
        self.contamination = contamination
        self.transductive = transductive
        self.max_context = max_context
        self.random_state = random_state
        self.weights = weights

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Compare with, and score, the rows of X `(N, D)`; y is ignored."""
        check_share("contamination", self.contamination, most=0.5)
        check_whole(max_context=self.max_context, random_state=self.random_state)
        frame = read_table(self, X, reset=True)
        if len(frame) < 2:
            raise ValueError("n_samples=1 but a row is compared with others: give 2 or more.")
        self.encoder_ = TableEncoder().fit(frame)
        table = self.encoder_.transform(frame)
        learner = self._trained(min(self.max_context, max(FEWEST, PAIRS // len(table)))).eval()
        self._learned = learner.learn(unlabelled(torch.from_numpy(table)))
        self._own = _OwnScores(learner, table)
        return self

    @property
    def decision_scores_(self) -> Scores:
        """Scores of the rows of `fit`."""
        check_is_fitted(self)
        return self._own.scores

    @property
    def threshold_(self) -> float:
        """Quantile of these scores."""
        return float(np.quantile(self.decision_scores_, 1 - self.contamination))

    @property
    def offset_(self) -> float:
        """Threshold of `score_samples`."""
        return -self.threshold_

    @property
    def labels_(self) -> NDArray[np.int64]:
        """Which rows of `fit` are outliers."""
        return (self.decision_scores_ > self.threshold_).astype(np.int64)

    def score_samples(self, X: Any) -> Scores:  # noqa: N803
        """Return scores `(Q,)`, lower for more anomalous."""
        check_is_fitted(self)
        table = self.encoder_.transform(read_table(self, X, reset=False))
        known, places = self._own.find(table)
        scores = np.empty(len(table))
        if known.any():
            scores[known] = self.decision_scores_[places[known]]
        if not known.all():
            with torch.no_grad(), one_thread():
                new = self._learned(torch.from_numpy(table[~known]))
                usual = self._learned.own
            scores[~known] = _standardised(new.squeeze(1), _scale(usual.squeeze(1)))
        return np.asarray(-scores)

    def decision_function(self, X: Any) -> Scores:  # noqa: N803
        """Return `score_samples` less `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Return -1 for outliers and 1 for the others."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def predict_proba(self, X: Any) -> Scores:  # noqa: N803
        """Return PyOD's "linear" probabilities of a normal row and of an outlier, `(Q, 2)`.

        Scores from the smallest to the largest of the rows of `fit` become 0 to 1.
        """
        check_is_fitted(self)
        low, high = self.decision_scores_.min(), self.decision_scores_.max()
        outlier = ((-self.score_samples(X) - low) / max(high - low, 1e-12)).clip(0, 1)
        return np.column_stack([1 - outlier, outlier])

    def _trained(self, max_context: int) -> AmortizedDetector:
        """The detector with the parameters of this estimator and trained weights."""
        arguments = (self.transductive, self.random_state)
        if self.weights is None:
            return AmortizedDetector(max_context, 32, 0, *arguments)
        trained = _load(self.weights)
        learner = AmortizedDetector(max_context, trained.width, trained.row_width, *arguments)
        learner.load_state_dict(trained.state_dict())
        return learner

    def __sklearn_tags__(self) -> Any:
        """Say that cells may be missing or text."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.categorical = True
        return tags


class _OwnScores:
    """Scores of the rows of `fit`, computed when they are first asked for.

    Who asks about new rows only, as in one-class detection, never does. They lie in an object of
    their own since an estimator must not change after `fit`.

    Args:
        learner: Judges the table.
        table: Rows of shape `(N, D)`.
    """

    def __init__(self, learner: AmortizedDetector, table: Scores) -> None:
        self.learner = learner
        self.table = table
        hashes = _hash(table)
        self.order = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self.order]

    def find(self, table: Scores) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Tell which rows `(Q, D)` are among those of `fit`, and at which place a row like it."""
        hashes = _hash(table)
        places = np.searchsorted(self.hashes, hashes).clip(max=len(self.hashes) - 1)
        return self.hashes[places] == hashes, self.order[places]

    @cached_property
    def scores(self) -> Scores:
        """Of median 0 and interquartile range 1, the same for equal rows, shape `(N,)`."""
        samples = unlabelled(torch.from_numpy(self.table))
        with torch.no_grad(), one_thread():
            own = self.learner(samples, samples.x).squeeze(1)
        scores = _standardised(own, _scale(own))
        return np.asarray(scores[self.find(self.table)[1]])


def _load(weights: str) -> AmortizedDetector:
    found = (
        MetaLearner.load_from_checkpoint(weights).learner
        if weights.endswith(".ckpt")
        else _shipped(weights)
    )
    if not isinstance(found, AmortizedDetector):
        raise ValueError(
            f"weights={weights!r} are those of {type(found).__name__}, not of AmortizedDetector: "
            "give those of a detector."
        )
    return found


_shipped = cache(load_learner)  # reading them takes a tenth of the time of a table


def _hash(table: Scores) -> NDArray[np.uint64]:
    """One number for each row, the same for equal rows."""
    return np.asarray(pd.util.hash_pandas_object(pd.DataFrame(table + 0.0), index=False))


def _scale(scores: torch.Tensor) -> tuple[float, float]:
    """Median and interquartile range."""
    low, middle, high = np.quantile(scores.numpy(), [0.25, 0.5, 0.75])
    return float(middle), float(high - low) or 1.0


def _standardised(scores: torch.Tensor, scale: tuple[float, float]) -> Scores:
    return np.asarray((scores.numpy() - scale[0]) / scale[1])
