"""The outer loop: a LightningModule that meta-trains any learner."""

import inspect
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, cast

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined] # which is documented

from .batching import Mode, TaskMap
from .checkpoints import (
    load_checkpoint,
    refuse_another_model,
    refuse_foreign_code,
    refuse_weights_alone,
)
from .episodes import Episode, Samples, normal_tensors
from .guards import ADVICE, StepGuard, check_finite
from .hyperparameters import UndescribableError, build_arguments, describe, outline
from .learners import Learner
from .metrics import EpisodeMetric, MeanConfidence


class MetaLearner(LightningModule):
    """Trains what a learner can learn across tasks: the outer loop of meta-learning.

    Each step takes a meta-batch of B episodes, lets the learner answer every episode's query set
    from its support set, and minimises the mean query loss over all parameters of the learner.

    Logs `train/loss`, `val/loss`, `test/loss`, the metric under its name, such as `val/accuracy`,
    and for validation and test the half width of its 95 % confidence interval over episodes, such
    as `val/accuracy_ci95`.

    What is not finite does not spread. A task whose loss or gradient is not finite, as where its
    inner loop diverges, or for which torch.linalg finds no solution, is left out of its step
    (`train/masked_tasks` counts these where there are any). A step whose meta-gradient is not
    finite is skipped: weights and optimizer stay as they are (`guard/skipped_steps` counts them).
    In evaluation, an episode whose loss is not finite counts as the worst of the others
    (`val/masked_tasks`), and if more than half of the validation episodes are such, the run ends.
    Weights that are not finite are never saved.

    Args:
        learner: Answers one episode; its parameters are what the outer loop trains.
        loss: Outer loss of one episode, called as `(query outputs, query.y)`.
        metric: Scores every episode.
        optimizer: Makes the outer optimizer from the parameters.
        lr_scheduler: Makes a schedule from the optimizer; it advances after every outer step.
        seed: Seed of what is random inside the model, such as dropout. Every episode of every
            step draws from `(seed, step, number of the episode)`, so that a resumed run repeats it
            exactly.
        tasks: "loop" runs one episode after another, "batched" several at once, "auto" too unless
            the learner does what cannot be done for many at once; see `TaskMap`.
        chunk: Episodes whose graph is in memory at a time, and which run together; if None, as
            many as make it fast, see `TaskMap`. The gradient is that of the whole meta-batch.
        compiled: Whether training steps are compiled by `torch.compile`, which suits small
            networks; see `TaskMap`.
        max_skipped_steps: Steps without a finite meta-gradient, for which 10 good steps each make
            up, before the run ends: more where the gradients of good runs overflow now and then.

    Attributes:
        model_may_change: Whether a resumed run may go on with another model than that of its
            checkpoint, which is refused else.

    Example:
        >>> from metalit.inner_loops import GradientDescent
        >>> from metalit.learners import MAML
        >>> from metalit.metrics import Accuracy
        >>> maml = MAML(nn.Linear(2, 3), GradientDescent(lr=0.1), nn.CrossEntropyLoss())
        >>> model = MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy())
    """

    def __init__(
        self,
        learner: Learner,
        loss: nn.Module,
        metric: EpisodeMetric,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        seed: int = 0,
        tasks: Mode = "auto",
        chunk: int | None = None,
        compiled: bool = False,
        max_skipped_steps: int = 10,
    ) -> None:
        super().__init__()
        if seed < 0:
            raise ValueError(f"model.seed={seed} must be 0 or more: raise it.")
        self.learner = learner
        self.loss = loss
        self.metric = metric
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.seed = seed
        self.tasks = tasks
        self.chunk = chunk
        self.compiled = compiled
        self.max_skipped_steps = max_skipped_steps
        self.model_may_change = False
        self._outline: Any = None  # as the user made it: training may change what was an argument
        self._tasks = TaskMap(tasks, chunk, compiled)
        self._guard = StepGuard(max_skipped_steps)
        worst: Literal["lowest", "highest"] = "lowest" if metric.higher_is_better else "highest"
        self.scores = nn.ModuleDict({stage: MeanConfidence(worst) for stage in ("val", "test")})
        self.losses = nn.ModuleDict({stage: MeanConfidence("highest") for stage in ("val", "test")})

    def forward(self, episodes: Episode) -> Tensor:
        """Answer the query sets of a meta-batch.

        Args:
            episodes: A meta-batch of B episodes.

        Returns:
            Query outputs of shape `(B, Q, K)`.
        """
        (outputs,) = self._tasks(lambda e: (self.learner(e.support, e.query.x),), episodes)
        return outputs

    def score(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        """Return the mean query loss, a scalar, and the metric of every episode, of shape `(B,)`.

        The loss can be differentiated in training mode only.
        """
        answers = self._answers(episodes)
        return answers.loss, self.metric(answers.outputs, episodes.query.y)

    def _answers(self, episodes: Episode) -> "_Answers":
        # Trainer evaluates in inference mode by default, where no inner loop could take a gradient
        with torch.inference_mode(False), torch.set_grad_enabled(self.training):
            episodes = normal_tensors(episodes)
            seeds = self._seeds(len(episodes.query.y))
            if self.training:
                parameters = [p for p in self.parameters() if p.requires_grad]
                outputs, loss, kept = self._tasks.mean_loss(
                    self._answer, episodes, seeds, parameters
                )
                return _Answers(outputs, loss, loss, kept)
            try:
                outputs, losses = self._tasks(self._answer, episodes, seeds)
            except LinAlgError:  # in every single episode
                outputs = losses = torch.full((len(seeds),), torch.nan, device=self.device)
            return _Answers(outputs, losses.mean(), losses, losses.isfinite().cpu())

    def _answer(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Return outputs and loss of the query set of one episode."""
        outputs = self.learner(episode.support, episode.query.x)
        return outputs, self.loss(outputs, episode.query.y)

    def _seeds(self, size: int) -> list[int]:
        """Draw a seed for each episode, the same whatever the number of processes."""
        processes = distributed.get_world_size() if distributed.is_initialized() else 1
        seeds = torch.randint(2**62, (processes * size,)).tolist()
        return seeds[self.global_rank * size :][:size]

    def check(self, episodes: Episode) -> None:
        """Raise a ValueError in one line if a meta-batch does not fit the learner."""
        with torch.inference_mode(False), torch.no_grad():
            support = normal_tensors(episodes).support
            self.learner.check(Samples(support.x[0], support.y[0]))

    def training_step(self, episodes: Episode, batch_idx: int) -> Tensor:
        """Return the mean query loss of a meta-batch.

        Raises:
            ValueError: If the loss depends on no weight that could be trained.
        """
        loss = self._step(episodes, "train", batch_idx)
        if not loss.requires_grad:
            raise ValueError(
                f"model.learner is {type(self.learner).__name__}, whose loss depends on no weight "
                "that can be trained: let some require gradients, or only `test` it."
            )
        return loss

    def validation_step(self, episodes: Episode, batch_idx: int) -> Tensor:
        """Score a meta-batch of validation episodes."""
        return self._step(episodes, "val", batch_idx)

    def test_step(self, episodes: Episode, batch_idx: int) -> Tensor:
        """Score a meta-batch of test episodes."""
        return self._step(episodes, "test", batch_idx)

    def predict_step(self, episodes: Episode, batch_idx: int) -> Tensor:
        """Return the query outputs of a meta-batch, of shape `(B, Q, K)`."""
        self.check(episodes)
        with torch.inference_mode(False), torch.no_grad():
            outputs: Tensor = self(normal_tensors(episodes))
        return outputs

    def on_train_batch_start(self, batch: Episode, batch_idx: int) -> None:
        """Seed what is random inside the model from `(seed, step)`."""
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        sequence = np.random.SeedSequence([self.seed, progress.processed])
        # the episodes' seeds come from here (see `_seeds`); not torch.manual_seed, which takes a
        # traceback for each kind of device that is absent
        torch.default_generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Skip the step, on all processes, if its gradient is not finite."""
        news = self._guard.end_step(self, optimizer)
        if self._guard.masked and self._is_logged_step():
            news["train/masked_tasks"] = self._guard.masked
            self._guard.masked = 0
        if news:
            self.trainer.callback_metrics.update({k: torch.tensor(v) for k, v in news.items()})
            self._log_row(dict(news))
            self._guard.check_budget(self.global_step)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, unless a skipped step leaves nothing to clip, which torch takes for an error."""
        if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_end(self) -> None:
        """Refuse to end with weights that are not finite, or that no step has changed."""
        check_finite(self, self.trainer.optimizers, "at the end of training")
        self._guard.check_end(self.global_step)

    def on_validation_epoch_end(self) -> None:
        """Log mean and confidence interval over all validation episodes."""
        self._log_score("val")

    def on_test_epoch_end(self) -> None:
        """Log mean and confidence interval over all test episodes."""
        self._log_score("test")

    def setup(self, stage: str) -> None:
        """Refuse a strategy that cannot differentiate twice, and keep what the model is."""
        self._outline = outline(self)
        if isinstance(self.trainer.strategy, FSDPStrategy):
            raise ValueError("strategy fsdp cannot differentiate through an inner loop: use ddp.")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the outer optimizer and its schedule."""
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise ValueError(
                f"model.lr_scheduler is {type(scheduler).__name__}, which waits for a score, but "
                "schedules advance after every outer step: take another, such as CosineAnnealingLR."
            )
        schedule: LRSchedulerConfigType = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down how this object was made, as JSON primitives, and what the guards know.

        Raises:
            ValueError: If a weight, or what the optimizer remembers, is not finite.
        """
        optimizers = [] if self._trainer is None else self._trainer.optimizers
        check_finite(self, optimizers, "and is not saved")
        checkpoint["guard"] = self._guard.state_dict(self)
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["outline"] = self._outline or outline(self)
        checkpoint["hyper_parameters"] = {"_class_path": path, **self.description(), **self.hparams}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with another model; go on counting skipped steps and tasks left out."""
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            refuse_weights_alone(checkpoint, self._trainer.ckpt_path)
            now, optimizer = self._outline or outline(self), self.optimizer(self.parameters())
            refuse_another_model(checkpoint, now, self.model_may_change, optimizer)
        self._guard.load_state_dict(checkpoint.get("guard", {}), self)

    def description(self) -> dict[str, Any]:
        """Return the arguments of this object as JSON primitives; what cannot be said is left out.

        An argument can be said if it and all that it was made of keep their own arguments under
        their names, as everything in metalit and scikit-learn does.
        """
        described = {}
        for name in inspect.signature(type(self)).parameters:
            with suppress(UndescribableError, AttributeError):
                described[name] = describe(getattr(self, name))
        return described

    # narrower than Lightning's: a path, and no other file or flag
    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", **arguments: Any
    ) -> Self:
        """Build a meta-learner from a checkpoint and load its weights.

        Args:
            checkpoint_path: A checkpoint file.
            map_location: Where the weights go, as in `torch.load`.
            arguments: Arguments of `__init__` that replace those of the checkpoint.

        Raises:
            ValueError: If the file is no checkpoint or a damaged one, cannot say how its learner
                was made (see `description`), or names code of a module not imported before.
        """
        checkpoint = load_checkpoint(checkpoint_path, map_location)
        saved = checkpoint.get("hyper_parameters", {})
        missing = [
            name for name in ("learner", "loss", "metric") if name not in {**saved, **arguments}
        ]
        if missing:
            raise ValueError(
                f"{checkpoint_path} does not say how its {' and '.join(missing)} was made: pass "
                f"{', '.join(f'{name}=…' for name in missing)} to load_from_checkpoint."
            )
        wanted = {k: v for k, v in saved.items() if k not in {"_class_path", *arguments}}
        refuse_foreign_code(wanted, checkpoint_path)
        model = cls(**build_arguments(cls, wanted), **arguments)
        model.load_state_dict(checkpoint["state_dict"])
        return model

    def _step(self, episodes: Episode, stage: str, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            self.check(episodes)
        outputs, loss, losses, kept = self._answers(episodes)
        masked = len(kept) - int(kept.sum())
        if not masked:
            values = self.metric(outputs, episodes.query.y)
        else:  # a metric need not know what is not finite
            values = outputs.new_full((len(kept),), torch.nan)
            if masked < len(kept):
                values[kept] = self.metric(outputs[kept], episodes.query.y[kept]).to(values)
        if stage == "train":
            self._guard.add_tasks(masked, len(kept))
            values = values[kept] if masked else values
            logs = {"train/loss": loss.detach(), f"train/{self.metric.name}": values.mean()}
            self._log_step(logs, batch_idx)
        else:
            diverged = ~kept.to(losses.device)
            cast(MeanConfidence, self.scores[stage]).update(values, diverged)
            cast(MeanConfidence, self.losses[stage]).update(losses, diverged)
        return loss

    def _log_step(self, values: dict[str, Tensor], batch_idx: int) -> None:
        """Hand the values of a training step to callbacks, progress bar and loggers.

        As `log_dict(values, prog_bar=True)` would, which copies what it knows of a key at every
        call, 0.6 ms a key: with the loggers' turn that is a tenth of a meta-step of small networks.
        """
        trainer = self.trainer
        trainer.callback_metrics.update(values)
        trainer.logged_metrics.update(values)
        numbers = {name: value.item() for name, value in values.items()}
        trainer.progress_bar_metrics.update(numbers)
        # not in the middle of a step of several meta-batches
        ends = (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
        if ends and self._is_logged_step():
            self._log_row({**numbers, "epoch": self.current_epoch})

    def _is_logged_step(self) -> bool:
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined] # mypy is blind
        due = every and (self.global_step + 1) % every == 0
        return bool(due or (every and self.trainer.should_stop))

    def _log_row(self, numbers: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics(numbers, step=self.global_step)
            logger.save()

    def _log_score(self, stage: str) -> None:
        scores, losses = (cast(MeanConfidence, m[stage]) for m in (self.scores, self.losses))
        (mean, ci95), loss = scores.compute(), losses.compute().mean
        counts = torch.stack([losses.lost, losses.count])
        lost, count = map(int, self.trainer.strategy.reduce(counts, reduce_op="sum"))
        scores.reset()
        losses.reset()
        name = f"{stage}/{self.metric.name}"
        # the values are those of all processes already; sync_dist only says so to Lightning
        self.log(f"{stage}/loss", loss, sync_dist=True)
        self.log_dict({name: mean, f"{name}_ci95": ci95}, prog_bar=True, sync_dist=True)
        if lost:
            self.log(f"{stage}/masked_tasks", float(lost), sync_dist=True)
            what = f"the {stage} loss of {lost} of {count} episodes is nan or inf"
            if stage == "val" and 2 * lost > count:  # before a checkpoint is made of this
                raise ValueError(f"{what}: {ADVICE}.")
            self._guard.warn_once(self, stage, f"{what}; they count as the worst of the others.")


class _Answers(NamedTuple):
    """What a meta-batch is answered, the mean loss, in evaluation each, and which are finite."""

    outputs: Tensor
    loss: Tensor
    losses: Tensor
    kept: Tensor
