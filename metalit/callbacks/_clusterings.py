"""Drawings of clustered tables, and of how far a confidence can be trusted."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from ..metrics import Reliability

_NOISE = (0.75, 0.75, 0.75)
_PALETTE = 20  # colours of a map; more clusters than that use them again


class Picture(NamedTuple):
    """One table that was clustered in several ways.

    Attributes:
        plane: Where the rows are drawn, `(Q, 2)`.
        panels: Clusters `(Q,)` by who found them, -1 for noise.
        scores: Adjusted Rand index of each, the truth left out.
        confidence: What the learner expects the index to be; None if it says nothing.
    """

    plane: NDArray[np.float64]
    panels: dict[str, NDArray[np.int64]]
    scores: dict[str, float]
    confidence: float | None


def flatten(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Show rows `(Q, D)` in the plane: as they are, or by their first two principal components."""
    if table.shape[1] == 2:
        return table
    components = min(2, *table.shape)
    plane = PCA(components, svd_solver="full").fit_transform(table)
    return np.pad(plane, ((0, 0), (0, 2 - components)))


def count_steps(steps: int) -> str:
    """The number of steps as text."""
    return f"{steps} step{'' if steps == 1 else 's'}"


def draw_pictures(pictures: Sequence[Picture], file: Path) -> None:
    """Draw a line of panels for each table."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = len(pictures[0].panels)
    figure = Figure(figsize=(2.2 * columns, 2.4 * len(pictures)), layout="constrained")
    grid = figure.subplots(len(pictures), columns, squeeze=False)
    for axes, picture in zip(grid, pictures, strict=True):
        most = 1 + max(int(labels.max()) for labels in picture.panels.values())
        colours = colormaps["tab10" if most <= 10 else f"tab{_PALETTE}"]
        for axis, (name, labels) in zip(axes, picture.panels.items(), strict=True):
            dots = [_NOISE if label < 0 else colours(int(label) % _PALETTE) for label in labels]
            axis.scatter(
                *picture.plane.T, c=dots, s=max(2, min(14, 3000 / len(dots))), linewidths=0
            )
            score = f"\nARI {picture.scores[name]:.2f}" if name in picture.scores else "\n"
            axis.set_title(name + score, fontsize=9)
            axis.set(xticks=[], yticks=[])
            axis.margins(0.04)
        if picture.confidence is not None:
            axes[0].set_ylabel(f"expected ARI {picture.confidence:.2f}", fontsize=9)
    figure.savefig(file, dpi=150)


def draw_reliability(curves: dict[str, Reliability], file: Path) -> None:
    """Draw the score that was reached against the one that was expected."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.add_subplot(xlabel="confidence (expected ARI)", ylabel="ARI that was reached")
    low = min(0.0, *(min(*curve.confidence, *curve.score) for curve in curves.values()))
    axes.plot([low, 1], [low, 1], color="0.7", linewidth=1, zorder=1)
    for (name, curve), marker in zip(curves.items(), "os", strict=False):
        ci95 = np.nan_to_num(curve.ci95)
        axes.errorbar(
            curve.confidence, curve.score, yerr=ci95, label=name, marker=marker, capsize=3
        )
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)
