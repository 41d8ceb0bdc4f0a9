"""What a measurement ran on, and what keeps it steady."""

import ctypes
import os
import platform
import re
import shlex
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

# of glibc's malloc.h, as they are when a process has freed a few large tensors (`man mallopt`)
USUAL = {-4: 65536, -3: 2**25, -1: 2**26}
PEERS = ("torch", "higher", "torchopt", "jax")


def steady(threads: int, device: str, tf32: bool) -> None:
    """Keep this process on as many cores as it has threads, and the precision of all one.

    To be called before JAX is imported: XLA makes as many threads as it may use cores.
    """
    if device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, idlest_cores(threads))
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "tensorfloat32" if tf32 else "highest")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory too
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def allocate(engine: bool) -> None:
    """Set the C library's allocator as our engine does, or as it is in a process without it.

    All contenders run in one process, in which the engine's setting would serve the others, too.
    """
    from metalit.batching.allocator import keep_freed_memory

    if engine:
        keep_freed_memory.__wrapped__()
    elif platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        for parameter, value in USUAL.items():
            library.mallopt(parameter, value)


def idlest_cores(number: int, seconds: float = 0.5) -> list[int]:
    """Return the cores of this process that did least while it waited (Linux)."""

    def idle() -> dict[int, int]:
        fields = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        return {int(f[0][3:]): int(f[4]) for f in fields if re.fullmatch(r"cpu\d+", f[0])}

    before = idle()
    time.sleep(seconds)
    rest = {core: ticks - before[core] for core, ticks in idle().items()}
    return sorted(os.sched_getaffinity(0), key=lambda core: -rest[core])[:number]


def command(argv: Sequence[str]) -> str:
    """Return the command line without the folders of this machine."""
    shown = [
        "FOLDER" if before in ("--results", "--figure") else word
        for before, word in zip(["", *argv], argv, strict=False)
    ]
    return shlex.join(["python", "benchmarks/meta_step", *shown])


def describe(threads: int, device: str, tf32: bool) -> dict[str, Any]:
    """Return processor, threads and versions."""
    versions = {}
    for package in PEERS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    found = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
    }
    if device != "cpu":
        found |= {"device": torch.cuda.get_device_name(device), "tf32": tf32}
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo")
    if lines.is_file():
        for line in lines.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
