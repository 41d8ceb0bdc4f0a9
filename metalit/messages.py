"""What the command line says: errors in one line, and nothing that is not for the user."""

import errno
import inspect
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch
from jsonargparse import ArgumentError
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_utilities.core import rank_zero

from .parser_messages import explain_parser

EXPECTED = (ArgumentError, ValueError, TypeError, OSError, MisconfigurationException, ImportError)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PHRASES = (  # of others, who do not name the option
    (
        "No supported gpu backend found",
        "trainer.accelerator asks for a GPU but torch finds none here: take cpu or auto.",
    ),
    (
        "you must have DeepSpeed installed",
        "trainer.strategy is deepspeed but that package is not installed: install it, or take ddp.",
    ),
    (
        "more than one stateful callback of type `ModelCheckpoint`",
        "two checkpoint callbacks have equal settings, by which a saved run cannot tell them "
        "apart: give checkpoint.monitor a value, or drop the one from trainer.callbacks.",
    ),
)
LONGEST = 480  # characters
MEMORY = re.compile("can't allocate memory|out of memory|Unable to allocate|Cannot allocate memory")
SECTIONS = (  # which option it is that a module complains about
    ("lightning.pytorch.callbacks.model_checkpoint", "checkpoint", ModelCheckpoint),
    ("lightning.fabric.utilities.seed", "seed_everything", None),
    ("lightning.pytorch.callbacks.timer", "trainer.max_time", None),
    ("lightning.", "trainer", Trainer),
    ("torch.optim.lr_scheduler", "model.lr_scheduler", None),
    ("torch.optim.", "model.optimizer", None),
)


def explain(error: BaseException) -> str:
    """Return one line that says what was given, what is needed and what to do."""
    said = " ".join(_explain(error).split())
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 4]} ..."


def _explain(error: BaseException) -> str:
    text = str(error).strip()
    if "DataLoader worker process" in text:  # the message is the last line of a traceback
        text = text.splitlines()[-1].partition(": ")[2]
    if re.search(r"DataLoader worker \(pid.*\) (is killed|exited)", text):
        return (
            "a worker process of the data was killed, mostly for lack of memory: lower "
            "data.num_workers, data.meta_batch_size or the size of an episode."
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or MEMORY.search(text):
        return (
            f"there is not enough memory ({(text.splitlines() or ['out of memory'])[0]}): lower "
            "model.chunk, data.meta_batch_size, or the size of the data or the network."
        )
    for phrase, instead in PHRASES:
        if phrase in text:
            return instead
    if "Error(s) in loading state_dict" in text:
        lines = [line.strip().rstrip(".") for line in text.splitlines()[1:]] or [text]
        return (
            f"the checkpoint does not fit the model ({lines[0]}): use the model it was made with."
        )
    if isinstance(error, UnicodeDecodeError):
        return f"a file is no text ({text}): save it as UTF-8."
    if isinstance(error, OSError) and error.filename:
        reason, full = str(error.strerror).lower(), error.errno in FULL
        advice = "make room" if full else "give another path, or mend it"
        return f"{error.filename} cannot be used ({reason}): {advice}."
    if misfit := _misfit(error, text):
        return misfit
    said, option = explain_parser(text), _option(error, text)
    if isinstance(error, ArithmeticError) and option:  # of the settings of an optimizer or schedule
        return f"{option}{said}: correct its settings."
    if isinstance(error, EXPECTED) and text:
        return f"{option}{said}"
    return f"{type(error).__name__}: {said} (METALIT_DEBUG=1 shows where)"


def _misfit(error: BaseException, text: str) -> str:
    """Name the outer loss or the metric that could not take what it was given."""
    model, traceback = None, error.__traceback__
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        owner = frame.f_locals.get("self")
        if frame.f_globals.get("__name__") == "metalit.meta_learner":
            model = owner
        for name in ("loss", "metric"):
            if model is not None and owner is not None and owner is getattr(model, name, None):
                return (
                    f"model.{name} is {type(owner).__name__}, which cannot score these outputs and "
                    f"labels ({(text.splitlines() or ['it fails'])[0]}): take one that fits them."
                )
    return ""


def _option(error: BaseException, text: str) -> str:
    """Name the option that others complain about, by where they do and the words they use."""
    place = _raised_in(error.__traceback__)
    for module, section, kind in SECTIONS:
        if not place.startswith(module) or "monitor=" in text:
            continue
        known = [] if kind is None else list(inspect.signature(kind).parameters)
        named = next((word for word in re.findall(r"\w+", text) if word in known), "")
        if kind is None or named:
            return f"{section}.{named}: " if named else f"{section}: "
    return ""


def _raised_in(traceback: TracebackType | None) -> str:
    """Name of the module in which an error was raised."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__", ""))


class Terminal(logging.Handler):
    """Writes plain lines to whatever `sys.stdout` is at the time, where a progress bar was."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        # a bar leaves the cursor behind itself, and is drawn anew below
        clear = "\r\x1b[2K" if sys.stdout.isatty() else ""
        sys.stdout.write(f"{clear}{self.format(record)}\n")
        sys.stdout.flush()


@contextmanager
def log_on_terminal() -> Iterator[None]:
    """Show metalit's messages on the terminal, as plain lines, until the block ends.

    A logger that has handlers (of the program around it) is left as it is.
    """
    logger = logging.getLogger("metalit")
    if logger.handlers:
        yield
        return
    terminal, level, propagate = Terminal(), logger.level, logger.propagate
    logger.addHandler(terminal)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(terminal)
        logger.setLevel(level)
        logger.propagate = propagate


def calm() -> None:
    """Silence exactly what would mislead a newcomer."""
    silenced = [
        # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
        ".*LeafSpec.* is deprecated",
        # it is: a run that goes on has checkpoints
        "Checkpoint directory .* exists and is not empty",
        # EpisodeDataModule starts its loaders at the right episode without a state of their own
        "You're resuming from a checkpoint that ended before the epoch ended",
    ]
    for message in silenced:
        warnings.filterwarnings("ignore", message)
    rank_zero.log.addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """Let all pass but Lightning's tips to install its own paid services."""
    return "Tip: For seamless cloud" not in str(record.msg)
