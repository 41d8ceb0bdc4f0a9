"""What a run leaves behind, and what to do next, in a few lines at its end."""

import logging
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from ..runs import short

log = logging.getLogger(__name__)


class RunSummary(Callback):
    """Says at the end of `fit` where the run is, its best score, and the next commands."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the lines."""
        checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        best = next((c for c in checkpoints if c.monitor and c.best_model_path), None)
        log_dir = trainer.log_dir  # on every rank: it broadcasts
        if not trainer.is_global_zero or log_dir is None or best is None:
            return
        run, file = Path(log_dir), short(Path(best.best_model_path))
        # a run that had nothing left to do has no score
        score = "" if best.best_model_score is None else f" {best.best_model_score:.4f}"
        config = f"--config {short(run / 'config.yaml')}"
        lines = [
            f"run folder        {short(run)}",
            f"best checkpoint   {file} ({best.monitor}{score})",
            "next commands",
            f"  test it         python -m metalit test {config} --ckpt_path {file}",
            f"  use it          python -m metalit predict --ckpt_path {file} "
            "--data SupportQuery --data.support EXAMPLES --data.query NEW",
            f"  train longer    python -m metalit fit {config} --ckpt_path last "
            "--trainer.max_epochs MORE",
        ]
        log.info("\n%s", "\n".join(lines))
