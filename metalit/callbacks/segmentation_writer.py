"""Writes what `predict` answers for the patches of images: maps of their regions."""

import colorsys
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..data import ImagePatches
from ..episodes import Episode
from ..runs import short, write_rows

log = logging.getLogger(__name__)

COLUMNS = ("region", "pixels", "share", "row", "column", "red", "green", "blue")


class SegmentationWriter(BasePredictionWriter):
    """Writes the regions of every image: a label map, an overlay and a table of their centres.

    A region is where one output is the largest; regions are numbered by size, the largest is 0.
    For every image of `ImagePatches` there are three files, of the size of the image as it is:
    `NAME.regions.png`, whose pixels are the numbers, with a palette; `NAME.overlay.png`, the image
    in the colours of its regions, with their borders in white; and `NAME.regions.csv`, with the
    centre of every region: its mean row and column, in pixels, and its mean colour, 0 to 255.

    Args:
        folder: Where to write; None is `segmentation` in the run folder.
        opacity: How much the colours of the regions hide the image in the overlay, 0 to 1.

    Raises:
        ValueError: If `opacity` is not within 0 to 1, or the data are not images.
    """

    def __init__(self, folder: str | None = None, opacity: float = 0.5) -> None:
        super().__init__(write_interval="batch")
        if not 0 <= opacity <= 1:
            raise ValueError(f"opacity={opacity} should be from 0 (the image) to 1 (the regions).")
        self.folder = folder
        self.opacity = opacity

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse other data, and find the folder, on every rank, since that broadcasts."""
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            # set by the data connector, unseen by mypy
            data = trainer.datamodule  # type: ignore[attr-defined]
            if not isinstance(data, ImagePatches):
                raise ValueError(
                    f"SegmentationWriter writes maps of images but got {type(data).__name__}: "
                    "give --data ImagePatches, or --predictions PredictionWriter."
                )
            self._data = data
            self._folder = Path(self.folder or Path(trainer.log_dir or ".") / "segmentation")

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Episode,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the three files of one image."""
        index = batch_indices[0] if batch_indices else batch_idx
        regions = self._data.spread(index, _by_size(prediction[0]))
        image = np.asarray(self._data.image(index))
        stem = self._folder / self._data.names[index]
        stem.parent.mkdir(parents=True, exist_ok=True)
        palette = _palette(int(regions.max()) + 1)
        picture = Image.fromarray(regions)
        picture.putpalette(palette.tobytes())
        picture.save(f"{stem}.regions.png")
        overlay = (1 - self.opacity) * image + self.opacity * palette[regions]
        overlay[_borders(regions)] = 255
        Image.fromarray(overlay.round().astype(np.uint8)).save(f"{stem}.overlay.png")
        write_rows(Path(f"{stem}.regions.csv"), COLUMNS, _centres(regions, image))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where the files are."""
        log.info("\n%d images in regions: %s", len(self._data.names), short(self._folder))


def _by_size(outputs: Tensor) -> NDArray[Any]:
    """Numbers of the largest outputs `(Q, K)`, with 0 for the number that is most frequent."""
    if outputs.shape[1] > 256:
        raise ValueError(
            f"the learner has {outputs.shape[1]} outputs but a label map holds 256 regions: lower "
            "n_clusters."
        )
    labels = outputs.argmax(dim=1).cpu()
    order = labels.bincount(minlength=outputs.shape[1]).argsort(descending=True, stable=True)
    return np.asarray(order.argsort()[labels])


def _palette(size: int) -> NDArray[np.uint8]:
    """As many colours, far from each other, of shape `(size, 3)`."""
    hues = (0.58 + 0.618034 * np.arange(size)) % 1  # golden ratio: new hues fall into the gaps
    values = 0.95 - 0.2 * (np.arange(size) % 3)
    colors = [colorsys.hsv_to_rgb(h, 0.75, v) for h, v in zip(hues, values, strict=True)]
    return (255 * np.array(colors)).round().astype(np.uint8)


def _borders(regions: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is of another region."""
    borders = np.zeros(regions.shape, dtype=bool)
    borders[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    borders[:-1] |= regions[:-1] != regions[1:]
    return borders


def _centres(regions: NDArray[Any], image: NDArray[Any]) -> list[dict[str, str]]:
    """One row a region: its size, mean position and mean colour."""
    rows = []
    for region in np.unique(regions):
        inside = regions == region
        means = [*(where.mean() for where in np.nonzero(inside)), *image[inside].mean(axis=0)]
        values = [f"{mean:.2f}" for mean in means]
        row = [str(region), str(inside.sum()), f"{inside.mean():.6f}", *values]
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows
