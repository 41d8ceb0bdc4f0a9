"""NaN and infinity in losses, gradients, inputs, weights and clusters do not get into weights.

Small runs of six learners, with three optimizers, in a loop, batched or compiled, with and without
accumulation, into each of which NaN or an infinity is put at one of twelve places, in one
meta-batch or in all from the fifth on. A run must end with weights and an optimizer that are
finite, or with a ValueError in one line; so must what it has saved be. Where enough is left to
train on, as where one task of four is spoilt, it must go on to its end.
"""

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from nonfinite_cases import Case, draw_case, make_run
from report import Measurement, print_rows
from torch import Tensor

from metalit.messages import explain


def all_finite(values: Iterable[Any]) -> bool:
    """Return whether all tensors among values are."""
    tensors = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def memories(states: Iterable[dict[Any, Any]]) -> list[Any]:
    """Return all that optimizers remember."""
    return [value for state in states for memory in state.values() for value in memory.values()]


def run_case(case: Case) -> tuple[str, str]:
    """Return how a case ended, and what is wrong with that, "" if nothing is."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ended = "finished"
        try:
            trainer, model, data = make_run(case, folder)
            trainer.fit(model, data)
        except ValueError as error:
            ended = explain(error)
            if "\n" in ended:
                return ended, "more than one line"
        except Exception as error:
            return f"{type(error).__name__}: {error}", "not a ValueError"
        else:
            states = [optimizer.state for optimizer in trainer.optimizers]
            if not all_finite([*model.state_dict().values(), *memories(states)]):
                return ended, "weights or optimizer are not finite"
        for file in folder.glob("*.ckpt"):
            saved = torch.load(file, weights_only=True)
            states = [optimizer["state"] for optimizer in saved["optimizer_states"]]
            if not all_finite([*saved["state_dict"].values(), *memories(states)]):
                return ended, f"{file.name} is not finite"
    if case.must_finish and ended != "finished":
        return ended, "ended although there was enough to train on"
    return ended, ""


def main(argv: list[str]) -> int:
    measurement = Measurement("nonfinite", __doc__, count=50)
    measurement.parser.add_argument("--first", type=int, default=0, help="number of the first case")
    measurement.parser.add_argument("--show", action="store_true", help="print every case")
    options = measurement.parse(argv)
    for name in ("metalit", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    ends, broken = {}, []
    for number in range(options.first, options.first + options.count):
        case = draw_case(number, options.seed)
        ended, wrong = run_case(case)
        ends.setdefault(case.place, Counter())["finished" if ended == "finished" else "error"] += 1
        if wrong:
            broken.append({"number": number, "case": str(case), "ended": ended, "wrong": wrong})
        if wrong or options.show:
            print(f"{number}: {case}\n   {ended}\n   {wrong}", flush=True)
    table = [[place, found["finished"], found["error"]] for place, found in ends.items()]
    print_rows([["put into", "finished", "one-line error"], *table])
    return measurement.write({"count": options.count, "ends": ends, "cases": broken}, len(broken))
