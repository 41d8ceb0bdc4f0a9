"""Checkpoints that try to run code: each leaves a mark in its folder if it succeeds."""

import copy
import hashlib
import importlib
import io
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

MARK = "EXECUTED"
MODULE = f"""
from pathlib import Path
from torch import nn
Path({MARK!r}).touch()
def evil(*args, **kwargs):
    Path({MARK!r}).touch()
class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
class State:
    def __setstate__(self, state):
        evil()
"""
TOUCH = f"touch {MARK}"
Checkpoint = dict[str, Any]


class Reduce:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


def class_path(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments}


POPEN = class_path("subprocess.Popen", args=["touch", MARK])
TRANSFORM = "sklearn.preprocessing.FunctionTransformer"
PATHS: dict[str, Any] = {
    "os.system": class_path("os.system", command=TOUCH),
    "subprocess.Popen": POPEN,
    "builtins.exec": class_path("builtins.exec", source=f"open({MARK!r}, 'w')"),
    "builtins.eval": class_path("builtins.eval", source=f"open({MARK!r}, 'w')"),
    "runpy.run_path": class_path("runpy.run_path", path_name="evil.py"),
    "torch.hub.load": class_path("torch.hub.load", repo_or_dir=".", model="evil", source="local"),
    "torch.load": class_path("torch.load", f="pickle.pt", weights_only=False),
    "joblib.load": class_path("joblib.load", filename="pickle.pkl"),
    "pandas.read_pickle": class_path("pandas.read_pickle", filepath_or_buffer="pickle.pkl"),
    "an alias in torch": class_path("torch.os.system", command=TOUCH),
    "an alias in sklearn": class_path("sklearn.base.warnings.sys.modules"),
    "a class of torch that starts programs": class_path(
        "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
        entrypoint="touch",
        args=[MARK],
        env={},
        stdout="",
        stderr="",
        local_rank_id=0,
        numa_options=None,
    ),
    "the command line": class_path(
        "metalit.main.MetalitCLI", args=["fit", "--config", "evil.yaml"]
    ),
    "a class of metalit that starts a program": class_path(
        "metalit.loggers.message_pipe.MessagePipe", script="touch.py"
    ),
    "a function of torch that makes a file": class_path(
        "torch.from_file", filename=MARK, shared=True, size=1
    ),
    "FunctionTransformer with a function": class_path(TRANSFORM, func="os.system"),
    "FunctionTransformer with a class": class_path(TRANSFORM, func=POPEN),
    "a module beside it": class_path("evil.Net"),
    "a package that is not installed": class_path("kornia_rs.Net"),
    "dict_kwargs": {"class_path": TRANSFORM, "dict_kwargs": {"func": POPEN}},
    "YAML in a text": yaml.safe_dump(class_path(TRANSFORM, func=POPEN)),
    "a settings file": "evil.yaml",
    "a later import": class_path(TRANSFORM, kw_args={"a": [POPEN]}),
    "torch.optim with a callable": class_path(
        "torch.optim.lr_scheduler.LambdaLR", lr_lambda="evil.evil"
    ),
}
"""Names that a description could hold, each put into several places of the model."""


def write_all(folder: Path, good: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Write all checkpoints and what they refer to into a folder.

    Args:
        folder: The folder.
        good: A checkpoint of a run.

    Returns:
        File and environment by the name of the attack.
    """
    _write_surroundings(folder)
    base = torch.load(good, weights_only=True)
    made: dict[str, tuple[str, dict[str, str]]] = {}

    def add(name: str, write: Callable[[Path], object], **environment: str) -> None:
        file = folder / f"{len(made):02}.ckpt"
        write(file)
        seal(file)
        made[name] = file.name, environment

    os_system = {**base, "extra": Reduce(os.system, TOUCH)}
    add("reduce", lambda file: torch.save(os_system, file))
    add(
        "reduce, forced by the environment",
        lambda file: torch.save(os_system, file),
        TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1",
    )
    add(
        "reduce in a state_dict",
        lambda file: torch.save(
            {**base, "state_dict": Reduce(eval, f"open({MARK!r}, 'w') and {{}}")}, file
        ),
    )
    add(
        "legacy file",
        lambda file: torch.save(os_system, file, _use_new_zipfile_serialization=False),
    )
    add("plain pickle", lambda file: file.write_bytes(pickle.dumps(os_system)))
    add(
        "__setstate__",
        lambda file: torch.save({**base, "extra": _with_module(folder, "State")}, file),
    )
    add("copyreg", lambda file: file.write_bytes(_by_copyreg()))
    add("torchscript", _save_torchscript)
    add(
        "a file within a tensor",
        lambda file: torch.save(
            {**base, "extra": torch.frombuffer(bytearray(_saved(os_system)), dtype=torch.uint8)},
            file,
        ),
    )
    add("an archive within the archive", lambda file: _nest(base, os_system, file))
    add("two pickles in one archive", lambda file: _double(base, os_system, file))
    add(
        "_instantiator",
        lambda file: torch.save(_described(base, {"_instantiator": "os.system"}), file),
    )
    add("_class_path", lambda file: torch.save(_described(base, {"_class_path": "evil.Net"}), file))
    state = {
        "config": "model: !!python/object/apply:os.system [touch EXECUTED]",
        "rows": None,
        "wandb": None,
    }
    add(
        "class paths in the state of RunConfig",
        lambda file: torch.save(
            {**base, "callbacks": {**base["callbacks"], "RunConfig": state}}, file
        ),
    )
    add(
        "a data module of its own",
        lambda file: torch.save(
            {**base, "datamodule_hyper_parameters": {"_class_path": "evil.Net", "tasks": POPEN}},
            file,
        ),
    )
    add(
        "an encoder from a malicious checkpoint",
        lambda file: torch.save(
            _described(
                base,
                {
                    "learner": _learner(
                        class_path("metalit.networks.PretrainedEncoder", checkpoint="00.ckpt")
                    )
                },
            ),
            file,
        ),
    )
    add(
        "a folder of cached results",
        lambda file: torch.save(
            _described(
                base,
                {
                    "learner": _clusterer(
                        class_path("sklearn.cluster.AgglomerativeClustering", memory="cache")
                    )
                },
            ),
            file,
        ),
    )
    for number, (name, path) in enumerate(PATHS.items()):
        places = _places(path)
        others = list(places)[1:]
        for place in ("part of a clusterer", others[number % len(others)]):
            described = _described(base, places[place])
            add(f"{name} as {place}", lambda file, d=described: torch.save(d, file))
    del sys.modules["evil"]  # else it would be one that the user has imported
    (Path(MARK)).unlink(missing_ok=True)
    return made


def seal(file: Path) -> None:
    """Add the SHA-256 that a checkpoint of metalit has, which an attacker can compute."""
    content = file.read_bytes()
    if content[-22:-18] == b"PK\5\6":
        digest = hashlib.sha256(content).hexdigest().encode()
        comment = b"metalit-sha256:" + digest
        file.write_bytes(content[:-2] + struct.pack("<H", len(comment)) + comment)


def _places(path: Any) -> dict[str, dict[str, Any]]:
    return {
        "network": {"learner": _learner(path)},
        "clusterer": {"learner": _clusterer(path)},
        "part of a clusterer": {"learner": _clusterer(class_path(TRANSFORM, func=path))},
        "optimizer": {"optimizer": path},
        "lr_scheduler": {"lr_scheduler": path},
        "inner_loss": {"learner": {**_learner(None), "inner_loss": path}},
    }


def _learner(network: Any) -> dict[str, Any]:
    loop = class_path("metalit.inner_loops.GradientDescent", lr=0.1)
    loss = "torch.nn.CrossEntropyLoss"
    return class_path("metalit.learners.MAML", network=network, inner_loop=loop, inner_loss=loss)


def _clusterer(estimator: Any) -> dict[str, Any]:
    return class_path("metalit.learners.SklearnClusterer", estimator=estimator, n_clusters=2)


def _described(base: Checkpoint, arguments: dict[str, Any]) -> Checkpoint:
    changed = copy.deepcopy(base)
    changed["hyper_parameters"].update(arguments)
    return changed


def _write_surroundings(folder: Path) -> None:
    """Write what a malicious download may bring along."""
    for name in ("evil", "hubconf", "kornia_rs"):
        (folder / f"{name}.py").write_text(MODULE)
    (folder / "touch.py").write_text(f"open({MARK!r}, 'w')")
    (folder / "evil.yaml").write_text(yaml.safe_dump(class_path(TRANSFORM, func=POPEN)))
    bad = Reduce(os.system, TOUCH)
    torch.save(bad, folder / "pickle.pt")
    (folder / "pickle.pkl").write_bytes(pickle.dumps(bad))
    results = folder / "cache/joblib/sklearn/cluster/_agglomerative/ward_tree/0"
    results.mkdir(parents=True)
    (results / "output.pkl").write_bytes(pickle.dumps(bad))


def _saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _with_module(folder: Path, name: str) -> Any:
    """Make an object of a class that only the folder's module has."""
    sys.path.insert(0, str(folder))
    try:
        kind = getattr(importlib.import_module("evil"), name)
        made = kind()
        made.value = 1
        return made
    finally:
        sys.path.remove(str(folder))


def _save_torchscript(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is no longer the way to export a model
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), str(file))


def _by_copyreg() -> bytes:
    """Pickle by hand: copyreg lets a class of the folder be made, and BUILD calls its method."""
    return (
        b"\x80\x02ccopyreg\n_reconstructor\ncevil\nState\ncbuiltins\nobject\nN\x87R}X\x01\x00\x00"
        b"\x00aK\x01sb."
    )


def _nest(good: Checkpoint, bad: Checkpoint, file: Path) -> None:
    torch.save(good, file)
    with zipfile.ZipFile(file, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/nested.pt", _saved(bad))
        archive.writestr(f"{root}/constants.pkl", pickle.dumps(Reduce(os.system, TOUCH)))


def _double(good: Checkpoint, bad: Checkpoint, file: Path) -> None:
    torch.save(good, file)
    inside = zipfile.ZipFile(io.BytesIO(_saved(bad)))
    (pickled,) = (name for name in inside.namelist() if name.endswith("data.pkl"))
    with zipfile.ZipFile(file, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/data.pkl", inside.read(pickled))
