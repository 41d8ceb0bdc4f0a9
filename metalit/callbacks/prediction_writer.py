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

log = logging.getLogger(__name__)

FORMATS = (".csv", ".parquet", ".npz")


class PredictionWriter(BasePredictionWriter):
    """Writes one row a query sample: its name, the prediction and what it rests on.

    With K outputs and classes, or for a clusterer, the columns are `prediction` and one
    `probability_<class>` each (softmax); with one output and no targets `score` (higher is more
    anomalous); in regression `target_0` and so on.

    Args:
        file: Where to write: .csv, .parquet or .npz. A bare name goes into the run folder.

    Raises:
        ValueError: If the format is none of the three.
    """

    def __init__(self, file: str = "predictions.csv") -> None:
        super().__init__(write_interval="epoch")
        if Path(file).suffix not in FORMATS:
            raise ValueError(f"file={file!r} has no known format: choose {', '.join(FORMATS)}.")
        self.file = file

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file and say where it is."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        outputs: Tensor = torch.cat([batch.flatten(0, 1) for batch in predictions])
        columns = {"name": np.asarray(data.names), **_columns(outputs, data.classes, data.regression)}
        bare = Path(self.file).name == self.file and trainer.log_dir is not None
        path = Path(str(trainer.log_dir)) / self.file if bare else Path(self.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, columns)
        log.info("%d predictions: %s", len(outputs), path)


def _columns(
    outputs: Tensor, classes: Sequence[str] | None, regression: bool
) -> dict[str, np.ndarray]:
    values = outputs.double().cpu()
    if regression:
        return {f"target_{k}": values[:, k].numpy() for k in range(values.shape[1])}
    if values.shape[1] == 1:
        return {"score": values[:, 0].numpy()}
    names = list(classes) if classes else [str(k) for k in range(values.shape[1])]
    shares = values[:, : len(names)].softmax(dim=1)  # outputs beyond the user's classes are spare
    best = np.asarray(names)[shares.argmax(dim=1).numpy()]
    probabilities = {f"probability_{n}": shares[:, k].numpy() for k, n in enumerate(names)}
    return {"prediction": best, **probabilities}


def _write(path: Path, columns: dict[str, np.ndarray]) -> None:
    import pandas as pd

    if path.suffix == ".npz":
        np.savez(path, **columns)  # type: ignore[arg-type]
    elif path.suffix == ".csv":
        pd.DataFrame(columns).to_csv(path, index=False)
    else:
        pd.DataFrame(columns).to_parquet(path, index=False)
