"""Weights of trained learners that ship inside the package."""

import hashlib
import io
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import load_checkpoint, refuse_forced_unpickling, refuse_foreign_code
from ..hyperparameters import Description, build_arguments
from ..learners import Learner, PairwiseSimilarity

FOLDER = Path(str(files("metalit.estimators"))) / "weights"
SUMS = "SHA256SUMS"  # as `sha256sum --check` reads it
LARGEST = 2_000_000  # bytes of a file

State = dict[str, Tensor]


def load_weights(name: str, folder: Path = FOLDER) -> tuple[State, Description]:
    """Return the weights of a learner, and how it was made.

    The file is compared with the SHA-256 that was recorded when it was made, and nothing in it is
    ever executed.

    Args:
        name: Name of the file, without its ending.
        folder: Has the files `NAME.pt` and `SHA256SUMS`.

    Returns:
        The learner's `state_dict`, floating-point values as float32, and its description in the
        form of `metalit.hyperparameters.describe`.

    Raises:
        ValueError: If there is no such file, or it is not the one that was recorded.
    """
    file, sums = folder / f"{name}.pt", _read_sums(folder)
    if file.name not in sums or not file.is_file():
        known = ", ".join(Path(known).stem for known in sums) or "none"
        raise ValueError(f"there are no weights {name!r} in {folder}: choose from {known}.")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sums[file.name]:
        raise ValueError(
            f"{file} has SHA-256 {found[:12]}… but {sums[file.name][:12]}… was recorded: the file "
            "was changed, install metalit anew."
        )
    refuse_forced_unpickling()
    saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    state = {key: _as_float32(value) for key, value in saved["state_dict"].items()}
    refuse_foreign_code(saved["description"], str(file))
    return state, saved["description"]


def load_learner(name: str, folder: Path = FOLDER) -> Learner:
    """Build a learner whose weights ship with the package, in evaluation mode.

    Args:
        name: Name of the weights.
        folder: See `load_weights`.

    Raises:
        ValueError: See `load_weights`.
    """
    from ..meta_learner import MetaLearner

    state, description = load_weights(name, folder)
    learner: Learner = build_arguments(MetaLearner, {"learner": description})["learner"]
    learner.load_state_dict(state)
    return learner.eval()


def load_similarity(name: str = "clusterer") -> PairwiseSimilarity:
    """Build the network of `MetaClusterer`; in YAML the class path of an argument `similarity`.

    Args:
        name: Name of the weights.

    Raises:
        ValueError: If there are no such weights, or they are those of another learner.
    """
    learner = load_learner(name)
    if not isinstance(learner, PairwiseSimilarity):
        raise ValueError(
            f"the weights {name!r} are those of {learner.name} but PairwiseSimilarity is needed: "
            "choose 'clusterer'."
        )
    return learner


def save_weights(
    name: str,
    checkpoint: str,
    origin: dict[str, Any],
    dtype: torch.dtype = torch.float16,
    folder: Path = FOLDER,
) -> Path:
    """Write the learner of a checkpoint of `MetaLearner` to `NAME.pt`, and record its SHA-256.

    Args:
        name: Name of the file, without its ending.
        checkpoint: A checkpoint file.
        origin: How the checkpoint was made, as JSON primitives: command, commit, seed.
        dtype: Of floating-point values in the file; float16 halves it and keeps 3 digits.
        folder: Where the file goes.

    Returns:
        The path of the file.

    Raises:
        ValueError: If the checkpoint cannot say how its learner was made, a weight is not finite
            in `dtype`, or the file would be larger than 2 MB.
    """
    loaded = load_checkpoint(checkpoint)
    description = loaded.get("hyper_parameters", {}).get("learner")
    if description is None:
        raise ValueError(
            f"{checkpoint} does not say how its learner was made: give a checkpoint of a run of "
            "`python -m metalit fit`."
        )
    weights = {
        key.removeprefix("learner."): value.to(dtype) if value.is_floating_point() else value
        for key, value in loaded["state_dict"].items()
        if key.startswith("learner.")
    }
    lost = [key for key, value in weights.items() if not bool(torch.isfinite(value).all())]
    if lost:
        raise ValueError(
            f"{lost[0]} has values that are not finite as {dtype}: take float32, or train anew."
        )
    stream = io.BytesIO()
    torch.save({"state_dict": weights, "description": description, "origin": origin}, stream)
    content = stream.getvalue()
    if len(content) > LARGEST:
        raise ValueError(
            f"the weights {name!r} take {len(content)} bytes but at most {LARGEST} can ship: take "
            "float16, or a smaller network."
        )
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.pt"
    file.write_bytes(content)
    sums = {**_read_sums(folder), file.name: hashlib.sha256(content).hexdigest()}
    lines = [f"{sums[known]}  {known}\n" for known in sorted(sums)]
    (folder / SUMS).write_text("".join(lines))
    return file


def _read_sums(folder: Path) -> dict[str, str]:
    """The recorded SHA-256 of each file, by its name."""
    sums = folder / SUMS
    lines = sums.read_text().splitlines() if sums.is_file() else []
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def _as_float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
