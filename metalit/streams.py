"""A meta-learned network that follows a stream of windows whose distribution changes."""

from collections import deque
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from math import inf, isfinite, sqrt
from typing import Any, Self

import torch
from torch import Tensor
from torch.func import functional_call

from .episodes import unlabelled
from .inner_loops import InnerLoop, Params
from .learners import MAML, Pretext


class CumulativeSum:
    """Page's test of a sequence of numbers for a rise of its mean (Page, 1954).

    Each value is standardised by mean and standard deviation of all values since the last alarm;
    the sum of what exceeds `slack`, never below 0, gives the alarm above `threshold`. Differs from
    the paper: mean and deviation are estimated as the sequence goes on, not known, and their errors
    are part of the unit: a value after n others has variance `s² (1 + 1 / n)`. A value that is not
    finite is an alarm at once.

    Args:
        threshold: Sum above which the mean has risen, in standard deviations.
        slack: Rise per value that is put up with, in standard deviations.
        least: Values before the first judgement, 2 or more.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> test = CumulativeSum()
        >>> [test.update(value) for value in (1.0, 1.1, 0.9, 1.0, 1.1, 9.0)]
        [False, False, False, False, False, True]

    References:
        Continuous Inspection Schemes, https://doi.org/10.1093/biomet/41.1-2.100
    """

    def __init__(self, threshold: float = 5.0, slack: float = 0.5, least: int = 5) -> None:
        if not threshold > 0 or slack < 0 or least < 2:
            raise ValueError(
                f"got threshold={threshold}, slack={slack} and least={least} but they must be "
                "positive, 0 or more and 2 or more: correct them."
            )
        self.threshold = threshold
        self.slack = slack
        self.least = least
        self._sum = 0.0
        self._restart()

    def update(self, value: float) -> bool:
        """Take the next value; return whether the mean has risen, and if so start anew."""
        if not isfinite(value):
            self._restart()
            return True
        if self._count >= self.least:
            spread = sqrt(self._squares / (self._count - 1) * (1 + 1 / self._count))
            rise = value - self._mean
            z = rise / spread if spread > 0 else (inf if rise > 0 else 0.0)
            self._sum = max(0.0, self._sum + z - self.slack)
            if self._sum > self.threshold:
                self._restart()
                return True
        self._count += 1
        difference = value - self._mean
        self._mean += difference / self._count
        self._squares += difference * (value - self._mean)
        return False

    def _restart(self) -> None:
        self._count, self._mean, self._squares, self._sum = 0, 0.0, 0.0, 0.0


class StreamAdapter:
    """Clusters or scores the windows of a stream, adapting without labels as it goes.

    Each window moves the parameters by a few steps of the inner loop, from where the windows before
    left them. The inner loss of a window before these steps tells how well what was learned still
    fits; when `test` says that it has risen, the stream has changed. Then there are several starts:
    the meta-learned parameters, with as many steps as they were trained for, the current ones, and
    those that were current before earlier changes, since a stream may return to where it was. The
    one with the smallest inner loss after its steps is taken. A false alarm costs time but need not
    cost accuracy, for the current parameters are among them.

    Use it prequentially: `predict` or `decision_function` first, then `partial_fit`.

    Attributes:
        changes: Numbers of the windows at which a change was noticed, from 0.

    Args:
        maml: Meta-trained learner, such as `MetaLearner.load_from_checkpoint(path).learner`. It is
            copied, and not changed.
        pretext: Makes the support set of a window, where the inner loss needs one (that of the
            `SelfSupervised` around the learner).
        steps: Inner steps for each window while nothing changes.
        test: Notices a rise of the inner loss; it is copied. None never starts again.
        remembered: Parameters from before changes to keep; 0 for the current ones alone.
        anchor: Share of the way back to the meta-learned parameters that is gone before the steps
            of each window. Meta-training saw a certain number of steps; many more of them, window
            after window, may lead where the inner loss is small and the answers are bad. With
            `steps / anchor` near the number of steps in training the parameters stay as far from
            where they began as they were trained to, and rest on several windows, not one.

    Raises:
        ValueError: If a number is out of range, or, when called, if a window is no table of finite
            numbers.

    Example:
        >>> from metalit.inner_loops import GradientDescent
        >>> from metalit.losses import MutualInformation
        >>> maml = MAML(torch.nn.Linear(2, 3), GradientDescent(lr=0.1), MutualInformation())
        >>> adapter = StreamAdapter(maml).partial_fit(torch.randn(50, 2))
        >>> adapter.predict(torch.randn(20, 2)).shape
        torch.Size([20])

    References:
        A Survey on Concept Drift Adaptation, https://doi.org/10.1145/2523813
    """

    def __init__(
        self,
        maml: MAML,
        pretext: Pretext | None = None,
        steps: int = 1,
        test: CumulativeSum | None = None,
        remembered: int = 5,
        anchor: float = 0.0,
    ) -> None:
        if steps < 0 or remembered < 0 or not 0 <= anchor <= 1:
            raise ValueError(
                f"got steps={steps}, remembered={remembered} and anchor={anchor} but they must be "
                "0 or more, and the anchor at most 1: correct them."
            )
        self.maml = deepcopy(maml).eval()
        self.pretext = pretext
        self.steps = steps
        self.test = deepcopy(test)
        self.remembered = remembered
        self.anchor = anchor
        self.changes: list[int] = []
        self._short_loop: InnerLoop = deepcopy(self.maml.inner_loop)
        self._short_loop.eval_steps = steps
        self._params: Params | None = None
        self._memory: deque[Params] = deque(maxlen=remembered)
        self._windows = 0

    @torch.no_grad()
    def partial_fit(self, window: Any) -> Self:
        """Adapt to the rows of a window, `(N, D)`, of which labels are not known."""
        support = unlabelled(_table(window))
        support = support if self.pretext is None else self.pretext(support)
        loss_fn = partial(self.maml.support_loss, support=support)
        if self._params is None:
            self._params = self._begin(loss_fn)
        elif self.test is not None and self.test.update(float(loss_fn(self._params))):
            self.changes.append(self._windows)
            starts = [self._params, *self._memory]
            ends = [self._begin(loss_fn), *(self._follow(loss_fn, start) for start in starts)]
            self._memory.append(self._params)
            self._params = min(ends, key=lambda end: float(loss_fn(end).nan_to_num(nan=inf)))
        else:
            self._params = self._follow(loss_fn, self._params)
        self._windows += 1
        return self

    @torch.no_grad()
    def decision_function(self, window: Any) -> Tensor:
        """Return the outputs for the rows of a window with the parameters as they are.

        Before the first `partial_fit` these are the meta-learned ones.

        Args:
            window: Rows of shape `(N, D)`.

        Returns:
            Logits of clusters, of shape `(N, K)`, or anomaly scores, `(N,)`, higher for more
            anomalous.
        """
        params = self.maml.initial_parameters() if self._params is None else self._params
        outputs: Tensor = functional_call(self.maml.network, params, _table(window))
        return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs

    def predict(self, window: Any) -> Tensor:
        """Return the clusters of the rows of a window, of shape `(N,)`."""
        outputs = self.decision_function(window)
        if outputs.ndim == 1:
            raise ValueError(
                "the network has one output, an anomaly score, but clusters need two or more: call "
                "decision_function, or give the network an output for each cluster."
            )
        return outputs.argmax(dim=1)

    def _begin(self, loss_fn: Callable[[Params], Tensor]) -> Params:
        """Adapt the meta-learned parameters, as in meta-training."""
        params: Params = self.maml.inner_loop(loss_fn, self.maml.initial_parameters())
        return params

    def _follow(self, loss_fn: Callable[[Params], Tensor], params: Params) -> Params:
        """Adapt parameters of earlier windows, by a few steps."""
        home = self.maml.initial_parameters()
        start = {name: value.lerp(home[name], self.anchor) for name, value in params.items()}
        end: Params = self._short_loop(loss_fn, start)
        return end


def _table(window: Any) -> Tensor:
    """Rows as a tensor, `(N, D)`."""
    x = torch.as_tensor(window, dtype=torch.float32)
    if x.ndim != 2 or not len(x) or not x.isfinite().all():
        raise ValueError(
            f"got a window of shape {tuple(x.shape)} but it must be a table of rows and columns "
            "without NaN or infinity: reshape it, fill or drop missing values."
        )
    return x
