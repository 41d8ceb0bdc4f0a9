"""Meta-train and test one config, and write down what it reached.

    python benchmarks/accuracy.py configs/omniglot_umtra.yaml --name umtra [--KEY VALUE ...]

Everything after the name goes to `python -m metalit fit` and `test`. Prints a row and writes
`benchmarks/results/NAME.json`: accuracy with its 95 % confidence interval over test episodes, the
command, commit, seed, steps, seconds and hardware.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
from training import RESULTS, call, commit


def measure(config: str, name: str, rest: list[str]) -> dict[str, Any]:
    """Meta-train and test one config through the command line; returns what is written down.

    Where the config has an `AdaptationReport`, its table is part of it.
    """
    at = commit()
    fit, seconds_fit = call("fit", config, *rest)
    steps = fit.trainer.global_step
    best = fit.trainer.checkpoint_callback.best_model_path
    test, seconds_test = call("test", config, *rest, "--ckpt_path", best)

    scores = {key: float(value) for key, value in test.trainer.callback_metrics.items()}
    data, threads = test.datamodule, torch.get_num_threads()
    shown = [part.replace(os.environ.get("METALIT_DATA", "\0"), "$METALIT_DATA") for part in rest]
    result = {
        "name": name,
        "command": " ".join(["python benchmarks/accuracy.py", config, "--name", name, *shown]),
        "commit": at,
        "seed": fit.config.fit.seed_everything,
        "steps": steps,
        "meta_batch_size": data.meta_batch_size,
        "seconds_fit": round(seconds_fit, 1),
        "seconds_test": round(seconds_test, 1),
        "test_episodes": data.test_episodes,
        "scores": scores,
        "hardware": f"{platform.machine()}, {threads} thread(s) of {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    adaptation = Path(best).parent.parent / "adaptation.json"
    if adaptation.is_file():
        result["adaptation"] = json.loads(adaptation.read_text())["mean_and_ci95"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--name", required=True)
    options, rest = parser.parse_known_args()
    result = measure(options.config, options.name, rest)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
