"""What a W&B that fails costs a run: warnings, rows, seconds.

Every scenario is a run of `python -m metalit fit` with the loggers CSV and WandB. It has to end
with exit code 0, the same `metrics.csv` as a run that has CSV alone, the expected number of
warnings (one at most), and, in the median, at most 15 s later than those runs, the end of the
interpreter included. Where the run's file is promised to be whole, `wandb sync` sends it to a
server on this machine, which has to get every row of `metrics.csv`. Nothing leaves the machine but
a look-up of a host name that does not exist.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from report import Measurement, print_rows
from wandb_harm import cores
from wandb_server import KEY, WandBServer

from metalit.runs import read_rows

ALLOWED = 15.0  # seconds
STEPS = 80
PAUSE = 0.05  # seconds a step: W&B needs about two seconds to start
CONFIG = """
model:
  class_path: MetaLearner
  init_args:
    learner:
      class_path: MAML
      init_args:
        network: {{class_path: MLP, init_args: {{in_features: 1, hidden: 8, out_features: 1}}}}
        inner_loop: {{class_path: GradientDescent, init_args: {{lr: 0.01}}}}
        inner_loss: torch.nn.MSELoss
    loss: torch.nn.MSELoss
    metric: MeanSquaredError
data:
  class_path: EpisodeDataModule
  init_args:
    tasks: {{class_path: SinusoidTasks, init_args: {{shot: 5}}}}
    meta_batch_size: 2
    episodes_per_epoch: {episodes}
    val_episodes: 4
checkpoint: {{monitor: val/mean_squared_error, mode: min}}
trainer:
  accelerator: cpu
  max_epochs: 1
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
  num_sanity_val_steps: 0
  default_root_dir: {folder}/runs
  logger: {loggers}
  callbacks:
    - class_path: wandb_harm.Harm
      init_args: {{number: "{harm}", step: {step}, pause: {pause}, folder: {folder}}}
"""


class Scenario(NamedTuple):
    """What is wrong with W&B, and what its run still has to show."""

    mode: str = "null"
    key: bool = False
    server: Literal["all", "none", "until accepted"] | None = None  # None: a host that is not there
    harm: str = ""
    warnings: int = 1
    whole: bool = True  # is every row in the run's file, or with the server?


SCENARIOS = {
    "no key": Scenario(warnings=0),
    "no key, online asked for": Scenario(mode="online"),
    "no network": Scenario(key=True),
    "silent server": Scenario(key=True, server="none"),
    "server falls silent": Scenario(key=True, server="until accepted"),
    "core killed": Scenario(harm="SIGKILL", whole=False),
    "core stopped": Scenario(harm="SIGSTOP", whole=False),
    "core killed, online": Scenario(key=True, server="all", harm="SIGKILL", whole=False),
    "nothing wrong": Scenario(key=True, server="all", warnings=0),
}


class Run(NamedTuple):
    """What one run came to."""

    code: int
    seconds: float
    last: float  # seconds from the end of the training on
    warnings: list[str]
    metrics: bytes
    harmed: bool
    synced: int | None  # rows of metrics.csv that a server has in the end


def run(folder: Path, scenario: Scenario | None, steps: int = STEPS) -> Run:
    """Run `fit` in a folder, with CSV alone where there is no scenario."""
    case = scenario or Scenario()
    loggers = "metalit.loggers.CSV"
    if scenario:
        wandb = f"{{class_path: metalit.loggers.WandB, init_args: {{mode: {case.mode}}}}}"
        loggers = f"[{loggers}, {wandb}]"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        CONFIG.format(
            episodes=2 * steps,
            folder=folder,
            loggers=loggers,
            harm=case.harm,
            step=steps // 2,
            pause=PAUSE,
        )
    )
    command = [sys.executable, "-m", "metalit", "fit", "--config", f"{folder}/config.yaml"]
    with WandBServer(case.server) if case.server else nullcontext() as server:
        url = server.url if server else "http://wandb.invalid"
        began = time.monotonic()
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(folder, case.key, url)
        )
        ended = time.monotonic()
    version = folder / "runs" / "version_0"
    metrics = version / "metrics.csv"
    rows = server.rows if server and case.server == "all" else []
    lines = (done.stdout + done.stderr).splitlines()
    return Run(
        done.returncode,
        ended - began,
        ended - float((folder / "trained").read_text()) if done.returncode == 0 else 0.0,
        [line for line in lines if "W&B" in line or "wandb:" in line],
        metrics.read_bytes() if metrics.is_file() else done.stderr.encode(),
        (folder / "harmed").exists(),
        count_rows(metrics, rows or sync(folder, version)) if scenario else None,
    )


def environment(folder: Path, key: bool, url: str) -> dict[str, str]:
    """Return an environment in which W&B finds this key and server, and nothing of the user's."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith("WANDB_")}
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parent),
        "NETRC": str(folder / "no_netrc"),
        "WANDB_CONFIG_DIR": str(folder / "no_settings"),
        "WANDB_BASE_URL": url,
        **({"WANDB_API_KEY": KEY} if key else {}),
    }


def sync(folder: Path, version: Path) -> list[dict[str, Any]]:
    """Return the rows that a server gets from `wandb sync`."""
    with WandBServer("all") as server:
        subprocess.run(
            [sys.executable, "-m", "wandb", "sync", "--include-online"]
            + [str(run) for run in version.glob("wandb/*run-*-*")],
            capture_output=True,
            env=environment(folder, True, server.url),
            timeout=120,
        )
    return server.rows


def count_rows(metrics: Path, rows: Sequence[dict[str, Any]]) -> int:
    """Return how many rows of `metrics.csv` are among those of a server, values and all."""
    names, wanted = read_rows(metrics) if metrics.is_file() else ([], [])
    sent = [{("step" if k == "trainer/global_step" else k): v for k, v in r.items()} for r in rows]
    sent = [{k: float(v) for k, v in row.items() if k in names} for row in sent]
    return sum({k: float(v) for k, v in row.items() if v} in sent for row in wanted)


def judge(case: Scenario, found: Run, base: Run, lost: float) -> list[str]:
    """Return the promises that a run broke; the seconds lost are the median of its like."""
    rows = base.metrics.count(b"\n") - 1
    kept = {
        f"exit code {found.code}": found.code == 0,
        "metrics.csv differs": found.metrics == base.metrics,
        f"{len(found.warnings)} warnings": len(found.warnings) == case.warnings,
        f"{lost:.1f} s lost": lost <= ALLOWED,
        "wandb-core was not harmed": found.harmed or not case.harm,
        f"{found.synced} of {rows} rows": found.synced == rows or not case.whole,
    }
    return [promise for promise, is_kept in kept.items() if not is_kept]


def main(argv: Sequence[str]) -> int:
    measurement = Measurement("wandb", __doc__ or "", count=3)
    measurement.parser.add_argument("--steps", type=int, default=STEPS)
    options = measurement.parse(argv)
    root = Path(tempfile.mkdtemp(prefix="wandb_"))
    alone: list[Run] = []
    runs: dict[str, list[Run]] = {name: [] for name in SCENARIOS}
    for number in range(options.count):
        alone.append(run(root / f"{number}" / "alone", None, options.steps))
        for name, case in SCENARIOS.items():
            folder = root / f"{number}" / re.sub(r"\W+", "_", name)
            runs[name].append(run(folder, case, options.steps))
    usual = statistics.median(one.seconds for one in alone)
    last = statistics.median(one.last for one in alone)
    table: list[tuple[object, ...]] = [
        ("scenario", "s lost, median", "most", "at the end", "warnings", "rows at W&B", "broken")
    ]
    result: dict[str, Any] = {"seconds_csv_alone": round(usual, 2), "allowed": ALLOWED}
    broken = 0
    for name, found in runs.items():
        lost = [one.seconds - usual for one in found]
        faults = [judge(SCENARIOS[name], one, alone[0], statistics.median(lost)) for one in found]
        broken += sum(map(bool, faults))
        result[name] = {
            "seconds_lost": [round(s, 2) for s in lost],
            "seconds_lost_at_the_end": [round(one.last - last, 2) for one in found],
            "warnings": [len(one.warnings) for one in found],
            "rows_synced": [one.synced for one in found],
            "rows": alone[0].metrics.count(b"\n") - 1,
            "broken": faults,
            "warning": next(iter(found[0].warnings), "")
            .partition("Warning: ")[2]
            .replace(str(root), "FOLDER"),
        }
        row = result[name]
        table.append(
            (
                name,
                f"{statistics.median(lost):.1f}",
                f"{max(lost):.1f}",
                max(row["seconds_lost_at_the_end"]),
                max(row["warnings"]),
                f"{min(row['rows_synced'])} of {row['rows']}",
                "; ".join(fault for one in faults for fault in one) or "-",
            )
        )
    print_rows(table)
    left = cores(os.getpid())
    shutil.rmtree(root)
    return measurement.write({**result, "processes_left": len(left)}, broken + len(left))
