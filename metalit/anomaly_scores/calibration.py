"""Anomaly scores brought to one scale by those of the context, and how each is distributed."""

import torch
from torch import Tensor

QUANTILES = (0.01, 0.10, 0.90, 0.95, 0.99, 1.00)
LOWEST, HIGHEST = -4.0, 8.0  # calibrated scores are clipped here, in interquartile ranges
LIMIT = 10.0  # descriptors are clipped here
CENTRES = (0.0, 0.0, 5.5, 2.5, 1.5, 0.5, 0.3, 1.5)  # of the descriptors of a task, roughly
WIDTHS = (1.0, 1.0, 1.0, 1.0, 1.0, 0.4, 0.4, 0.7)


class Calibration:
    """Brings each of K scores to one scale by the scores of the context's own rows.

    A calibrated score is the score less the median over the context, in interquartile ranges of
    the context. The mean of the calibrated scores is an ensemble that has learned nothing.

    Args:
        scores: Of the rows of the context, shape `(N, K)`, higher for more anomalous.
    """

    N_DESCRIPTORS = len(QUANTILES) + 4 + 3

    def __init__(self, scores: Tensor) -> None:
        low, self.median, high = scores.quantile(scores.new_tensor([0.25, 0.5, 0.75]), dim=0)
        floor = 0.05 * scores.std(0, correction=0) + 1e-4  # a score may be constant for most rows
        self.range = torch.maximum(high - low, floor)
        calibrated = self._calibrate(scores)
        self._sorted = calibrated.sort(dim=0).values.T.contiguous()
        self.descriptors = self._describe(calibrated.clamp(LOWEST, HIGHEST))
        """Of the distribution of each score over the context, shape `(K, 13)`; the last
        three are of a query, see `observe`, and 0 without one."""

    def __call__(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Calibrate scores `(Q, K)`.

        Returns:
            Calibrated scores, clipped, and the share of the context with a lower one, 0 to 1,
            both `(Q, K)`.
        """
        calibrated = self._calibrate(scores)
        columns = calibrated.T.contiguous()
        below = torch.searchsorted(self._sorted, columns)
        up_to = torch.searchsorted(self._sorted, columns, right=True)
        ranks = (below + up_to).T.to(scores.dtype) / (2 * self._sorted.shape[1])
        return calibrated.clamp(LOWEST, HIGHEST), ranks

    def observe(self, scores: Tensor) -> None:
        """Describe how the scores of a whole query, `(M, K)`, lie among those of the context."""
        calibrated, ranks = self(scores)
        above = (ranks > 0.95).to(calibrated.dtype).mean(0)
        half, most = calibrated.quantile(calibrated.new_tensor([0.5, 0.9]), dim=0) / 2
        self.descriptors = torch.cat(
            [self.descriptors[:, :-3], torch.stack([half, most, 2 * above], dim=1)], dim=1
        )

    def _calibrate(self, scores: Tensor) -> Tensor:
        calibrated: Tensor = (scores - self.median) / self.range
        return calibrated

    def _describe(self, calibrated: Tensor) -> Tensor:
        """Quantiles, agreement with the mean score, there and in its top 5 %, skewness, spread."""
        mean = calibrated.mean(1)
        centred = calibrated - calibrated.mean(0)
        deviation, of_mean = calibrated.std(0, correction=0), mean.std(correction=0)
        products = (centred * (mean - mean.mean())[:, None]).mean(0)
        agreement = products / (deviation * of_mean + 1e-9)
        top = mean.argsort(descending=True)[: max(1, len(mean) // 20)]
        skewness = centred.pow(3).mean(0) / (deviation.pow(3) + 1e-9)
        described = torch.stack(
            [
                *calibrated.quantile(calibrated.new_tensor(QUANTILES), dim=0) / 2,
                agreement,
                calibrated[top].mean(0) / 2,
                skewness.clamp(-3, 3),
                deviation,
            ],
            dim=1,
        )
        absent = described.new_zeros(len(described), 3)
        return torch.cat([described.clamp(-LIMIT, LIMIT), absent], dim=1)


N_TASK_DESCRIPTORS = len(CENTRES)


def describe_task(descriptors: Tensor, same: bool, together: bool) -> Tensor:
    """Descriptors of a task, `(8,)`: of its context, `(6,)`, and what is asked.

    Args:
        descriptors: See `AnomalyScores`.
        same: Whether the rows to judge come from the context's own distribution, anomalies
            included, as they do where a table is to judge itself.
        together: Whether the rows of a query are judged as a set.
    """
    asked = descriptors.new_tensor([1.0 if yes else -1.0 for yes in (same, together)])
    raw = torch.cat([asked, descriptors])
    scaled = (raw - raw.new_tensor(CENTRES)) / raw.new_tensor(WIDTHS)
    return scaled.clamp(-LIMIT, LIMIT)
