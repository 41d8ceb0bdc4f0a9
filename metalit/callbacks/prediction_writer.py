"""Writes what `predict` answers into a file of the user's."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from ..data import SupportQuery
from ..episodes import Episode
from ..runs import short

log = logging.getLogger(__name__)

FORMATS = (".csv", ".parquet", ".npz")


class PredictionWriter(BasePredictionWriter):
    """Writes one row a query sample: its name, the prediction and what it rests on.

    With K outputs the columns are `prediction` and one `probability_<class>` each (softmax), where
    a learner that does not look at labels, such as a clusterer, has the numbers 0 to K - 1 for
    classes; with one output and no targets `score` (higher is more anomalous); in regression
    `target_0` and so on.

    Args:
        file: Where to write: .csv, .parquet or .npz. None is `predictions.csv` in the run folder.

    Raises:
        ValueError: If the format is none of the three.
    """

    def __init__(self, file: str | None = None) -> None:
        super().__init__(write_interval="epoch")
        if file is not None and Path(file).suffix not in FORMATS:
            raise ValueError(f"file={file!r} has no known format: choose {', '.join(FORMATS)}.")
        self.file = file
        self._labels_matter = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data whose query samples have no names."""
        super().setup(trainer, pl_module, stage)
        if stage == "predict":
            # set by the data connector, unseen by mypy
            data = trainer.datamodule  # type: ignore[attr-defined]
            if not isinstance(data, SupportQuery):
                raise ValueError(
                    f"PredictionWriter writes a row a sample of SupportQuery but got "
                    f"{type(data).__name__}: give --predictions another writer, such as "
                    "SegmentationWriter for ImagePatches."
                )
            self._data = data

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Episode,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Find out whether the learner looks at labels: only then do outputs mean classes."""
        support, query = batch
        unlabelled = support._replace(y=torch.full_like(support.y, -1))
        try:
            again = pl_module.predict_step(Episode(unlabelled, query), batch_idx)
        except ValueError:  # such as the refusal of a cross-entropy
            self._labels_matter = True
        else:
            self._labels_matter = not torch.equal(again, outputs)

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file and say where it is."""
        data = self._data
        outputs: Tensor = torch.cat([batch.flatten(0, 1) for batch in predictions])
        classes = data.classes if self._labels_matter else None
        columns = {"name": np.asarray(data.names), **_columns(outputs, classes, data.targets)}
        path = Path(self.file or Path(trainer.log_dir or ".") / "predictions.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, columns)
        log.info("\n%d predictions: %s", len(outputs), short(path))


def _columns(
    outputs: Tensor, classes: Sequence[str] | None, targets: bool
) -> dict[str, np.ndarray[Any, Any]]:
    values = outputs.double().cpu()
    if targets:
        return {f"target_{k}": values[:, k].numpy() for k in range(values.shape[1])}
    if values.shape[1] == 1:
        return {"score": values[:, 0].numpy()}
    names = list(classes) if classes else [str(k) for k in range(values.shape[1])]
    shares = values[:, : len(names)].softmax(dim=1)  # outputs beyond the user's classes are spare
    best = np.asarray(names)[shares.argmax(dim=1).numpy()]
    probabilities = {f"probability_{n}": shares[:, k].numpy() for k, n in enumerate(names)}
    return {"prediction": best, **probabilities}


def _write(path: Path, columns: dict[str, np.ndarray[Any, Any]]) -> None:
    import pandas as pd

    if path.suffix == ".npz":
        # mypy takes the columns for the argument allow_pickle
        np.savez(path, **columns)  # type: ignore[arg-type]
    elif path.suffix == ".csv":
        pd.DataFrame(columns).to_csv(path, index=False)
    else:
        pd.DataFrame(columns).to_parquet(path, index=False)
