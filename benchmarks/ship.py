"""Put the learner of a checkpoint into the package, where the estimators take it from.

    python benchmarks/ship.py runs/NAME/version_0/checkpoints/best.ckpt --name NAME \\
        --command "python -m metalit fit --config configs/NAME.yaml" [--dtype float32]

Writes `metalit/estimators/weights/NAME.pt` and its SHA-256 into `SHA256SUMS` beside it. Of several
checkpoints, such as those of several seeds, each is a file: NAME_0.pt, NAME_1.pt and so on. The
seed comes from the `config.yaml` of the run, the commit from the working tree.
"""

import argparse
import os
from pathlib import Path

import torch
import yaml
from training import commit

from metalit.estimators._weights import FOLDER, save_weights
from metalit.runs import run_of

DTYPES = {"float16": torch.float16, "float32": torch.float32}


def seed_of(checkpoint: str) -> int | None:
    """Return the seed of the run that a checkpoint lies in."""
    run = run_of(Path(checkpoint))
    config = run / "config.yaml" if run is not None else None
    if config is None or not config.is_file():
        return None
    seed: int | None = yaml.safe_load(config.read_text()).get("seed_everything")
    return seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--name", required=True)
    parser.add_argument("--command", required=True, help="what made the checkpoint")
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    command = options.command.replace(os.environ.get("METALIT_DATA", "\0"), "$METALIT_DATA")
    for number, checkpoint in enumerate(options.checkpoints):
        name = f"{options.name}_{number}" if len(options.checkpoints) > 1 else options.name
        origin = {"command": command, "commit": commit(), "seed": seed_of(checkpoint)}
        file = save_weights(name, checkpoint, origin, DTYPES[options.dtype], options.folder)
        print(f"{file}: {file.stat().st_size} bytes, {origin}")


if __name__ == "__main__":
    main()
