r"""metalit: meta-learning on unlabelled data.

usage: python -m metalit COMMAND [--config FILE ...] [--KEY VALUE ...]

commands:
  fit        meta-train a learner; `--ckpt_path last` continues the newest run,
             `--ckpt_path auto` too, and begins one where there is none
  validate   score a checkpoint on the validation episodes
  test       score a checkpoint on the test episodes; `--ckpt_path best`
  predict    answer for your own support and query data with a checkpoint

options:
  --config FILE    a YAML file; give several, later ones win
  --KEY VALUE      one value of it, with dots: --trainer.max_epochs 20
  --print_config   show the whole configuration and stop
  --help           this text; `python -m metalit fit --help` shows every option
  --version        the version of metalit
  --debug          show the traceback of an error (also METALIT_DEBUG=1)

for example:
  python -m metalit fit --config configs/quickstart.yaml
  python -m metalit test --config configs/quickstart.yaml --ckpt_path best
  python -m metalit predict --ckpt_path best.ckpt --data SupportQuery \
      --data.support labelled.csv --data.query new.csv --data.label class
"""

import os
import sys
import time

from . import __version__
from .signals import StopSignals


def run() -> None:
    """Run the command line; an error ends it with one line and exit code 2."""
    arguments = sys.argv[1:]
    if arguments in ([], ["--help"], ["-h"]):
        sys.stdout.write(f"{__doc__}")
        return
    if arguments == ["--version"]:
        sys.stdout.write(f"metalit {__version__}\n")
        return
    if "--debug" in arguments:
        sys.argv.remove("--debug")
        os.environ["METALIT_DEBUG"] = "1"  # the processes of a multi-GPU run see it too
    signals = StopSignals(leave=os._exit)  # which no package that is being imported can catch
    signals.listen()
    try:
        _run()
    finally:
        signals.ignore()


def _run() -> None:
    from .main import explain, main  # imports torch, which takes seconds

    try:
        main()
    except Exception as error:
        if os.environ.get("METALIT_DEBUG", "0") not in ("", "0"):
            raise
        if os.environ.get("LOCAL_RANK", "0") != "0" and _parent_ends():
            sys.exit(2)  # and has said it
        # a progress bar may have left the cursor behind its last line
        sys.stderr.write(f"\nmetalit: error: {explain(error)}\n")
        sys.exit(2)


def _parent_ends(seconds: float = 10.0) -> bool:
    """Wait for the first process of a run, which meets most errors too, to end by itself.

    Lightning kills it, in the middle of its last words, when another process has ended before it.
    """
    parent, begin = os.getppid(), time.monotonic()
    while os.getppid() == parent and time.monotonic() - begin < seconds:
        time.sleep(0.05)
    return os.getppid() != parent


if __name__ == "__main__":
    run()
