import logging

import numpy as np
import pytest
import torch

from metalit.messages import explain, log_on_terminal
from metalit.parser_messages import explain_parser, unknown_option


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not enough memory (out of memory): lower model.chunk"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "there is not enough memory"),
        (torch.OutOfMemoryError("full"), "there is not enough memory (full)"),
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "),
            "a worker process of the data was killed, mostly for lack of memory",
        ),
        (
            PermissionError(13, "Permission denied", "a.csv"),
            "a.csv cannot be used (permission deni",
        ),
        (OSError(28, "No space left on device", "run/x"), "run/x cannot be used (no space left"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "a file is no text ("),
        (
            RuntimeError("Found more than one stateful callback of type `ModelCheckpoint`. In"),
            "two checkpoint callbacks have equal settings",
        ),
        (KeyError("a"), "KeyError: 'a' (METALIT_DEBUG=1 shows where)"),
        (ValueError("a\nb"), "a b"),
        (ValueError("x" * 900), "xxx ..."),
    ],
)
def test_an_error_becomes_one_line(error, said):
    line = explain(error)
    assert said in line
    assert "\n" not in line
    assert len(line) < 500


def test_messages_reach_the_terminal_in_the_block_alone(capsys):
    log = logging.getLogger("metalit.tests")
    logger = logging.getLogger("metalit")
    before = [list(logger.handlers), logger.level, logger.propagate]
    with log_on_terminal(), log_on_terminal():  # the second leaves the first one's handler alone
        log.info("within %d", 1)
    log.info("after")
    assert capsys.readouterr().out == "within 1\n"
    assert [logger.handlers, logger.level, logger.propagate] == before


def test_the_option_of_an_optimizer_and_of_the_trainer_are_named():
    with pytest.raises(ValueError, match="Invalid") as caught:
        torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=-1)
    assert explain(caught.value) == "model.optimizer: Invalid learning rate: -1"
    from lightning import Trainer

    with pytest.raises(Exception, match="max_epochs") as caught:
        Trainer(max_epochs=-3, accelerator="cpu", logger=False)
    assert explain(caught.value).startswith("trainer.max_epochs: ")


def test_an_error_of_no_special_place_keeps_its_words():
    with pytest.raises(ValueError, match="need at least one") as caught:
        np.concatenate([])
    assert explain(caught.value) == "need at least one array to concatenate"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--modl.seed", "--modl.seed is no option: did you mean model.seed?"),
        ("--trainer.max_epoch", "did you mean max_epochs?"),
        ("--trainer.zzz", "`python -m metalit fit --help` shows all."),
        ("--checkpoint.monitr", "did you mean monitor?"),
        ("--zzz", "--zzz is no option: `python -m metalit fit --help` shows all."),
    ],
)
def test_an_unknown_option_is_answered_with_what_may_be_meant(option, said):
    assert unknown_option(option).endswith(said)


def test_text_of_others_only_loses_its_line_breaks():
    assert explain_parser("one\n  two") == "one two"
    assert explain_parser("") == "nothing is said about it."


def test_a_class_without_a_signature_does_not_stand_in_the_way_of_the_message():
    text = "Problem with given class_path 'torch.Tensor':\n  Option 'days' is not accepted"
    assert "days is no option" in explain_parser(text)
