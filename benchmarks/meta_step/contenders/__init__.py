"""The contenders by name; a peer is imported only when it is asked for."""

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from ..workloads import State, Workload
from .base import Contender

Make = Callable[[Workload, State], Contender]

REFERENCE = "autograd loop"
OURS = "ours"
# name: module, class, package that it needs, further arguments
CONTENDERS: dict[str, tuple[str, str, str | None, dict[str, Any]]] = {
    OURS: ("ours", "Ours", None, {}),
    REFERENCE: ("autograd_loop", "AutogradLoop", None, {}),
    "higher": ("higher", "Higher", "higher", {}),
    "torchopt": ("torchopt", "TorchOpt", "torchopt", {}),
    "torch.func loop": ("torch_func", "TorchFuncLoop", None, {}),
    "torch.func vmap": ("torch_func", "TorchFuncVmap", None, {}),
    "jax scan": ("jax", "Jax", "jax", {"mode": "scan"}),
    "jax vmap": ("jax", "Jax", "jax", {"mode": "vmap"}),
    "jax loop": ("jax", "Jax", "jax", {"mode": "loop"}),
}


def missing_package(name: str) -> str | None:
    """Return the package without which a contender cannot run, None if it can."""
    package = CONTENDERS[name][2]
    return package if package and find_spec(package) is None else None


def load(name: str, **options: Any) -> Make:
    """Return what makes a contender, called as (workload, state); it is imported then."""
    module, class_name, _, arguments = CONTENDERS[name]

    def make(workload: Workload, state: State) -> Contender:
        contender = getattr(importlib.import_module(f".{module}", __name__), class_name)
        return contender(workload, state, **arguments, **options)

    return make
