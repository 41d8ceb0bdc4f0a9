"""The regions of china.jpg and flower.jpg: how much they depend on the seed.

    python benchmarks/segmentation.py [--seeds 0 1 2] [--overlays FOLDER] [--KEY VALUE ...]

Runs `configs/segmentation.yaml` once a seed, which decides all that is random: the patches to
learn from, the clustering, the initial weights of the network and the order of its mini-batches.
Everything else goes to `python -m metalit predict`. Prints the adjusted Rand index of every pair of
runs, over all pixels of an image, and writes `benchmarks/results/segmentation.json`; with
`--overlays` the pictures go to FOLDER/seed_N. Takes minutes of one core.
"""

import argparse
import json
import os
import platform
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import adjusted_rand_score
from training import RESULTS, call, commit

CONFIG = "configs/segmentation.yaml"
LEARNER = "--model.init_args.learner.init_args"
SEEDS = ("--seed_everything", "--data.init_args.seed", f"{LEARNER}.seed")
SEEDS += (f"{LEARNER}.learner.init_args.seed",)


def segment(seed: int, folder: Path, rest: list[str]) -> float:
    """Write the regions of all images with one seed; return the seconds that it took."""
    with tempfile.TemporaryDirectory() as runs:
        arguments = [text for name in SEEDS for text in (name, str(seed))]
        arguments += ["--predictions.init_args.folder", str(folder)]
        arguments += ["--trainer.default_root_dir", runs, "--trainer.enable_progress_bar", "false"]
        return call("predict", CONFIG, *arguments, *rest)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--overlays", type=Path)
    options, rest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.overlays or Path(temporary)
        seconds = [segment(seed, folder / f"seed_{seed}", rest) for seed in options.seeds]
        first = folder / f"seed_{options.seeds[0]}"
        names = sorted(
            file.name.removesuffix(".regions.png") for file in first.glob("*.regions.png")
        )
        maps = {
            name: [
                np.asarray(Image.open(folder / f"seed_{seed}" / f"{name}.regions.png")).ravel()
                for seed in options.seeds
            ]
            for name in names
        }
    pairs = list(combinations(range(len(options.seeds)), 2))
    images = {
        name: {
            "regions": [len(np.unique(labels)) for labels in found],
            "shares": [(np.bincount(labels) / labels.size).round(4).tolist() for labels in found],
            "ari": {
                f"{options.seeds[a]}-{options.seeds[b]}": adjusted_rand_score(found[a], found[b])
                for a, b in pairs
            },
        }
        for name, found in maps.items()
    }
    seeds = " ".join(map(str, options.seeds))
    result = {
        "command": " ".join(["python benchmarks/segmentation.py --seeds", seeds, *rest]),
        "commit": commit(),
        "seconds": [round(value, 1) for value in seconds],
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} thread(s) of "
        f"{os.cpu_count()} cores",
        "torch": torch.__version__,
        "images": images,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "segmentation.json").write_text(json.dumps(result, indent=2) + "\n")
    print("\nadjusted Rand index between the runs of two seeds")
    for name, found in images.items():
        print(f"{name:12}", *(f"{pair}: {score:.3f}  " for pair, score in found["ari"].items()))


if __name__ == "__main__":
    main()
