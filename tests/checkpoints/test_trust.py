import hashlib
import sys

import pytest
import torch

from metalit import MetaLearner
from metalit.checkpoints import SafeCheckpointIO, load_checkpoint, refuse_foreign_code
from metalit.estimators._weights import load_learner

RUNS_CODE = [
    "os.system",
    "subprocess.Popen",
    "builtins.exec",
    "builtins.eval",
    "runpy.run_path",
    "functools.partial",
    "torch.hub.load",
    "torch.load",
    "torch.compile",
    "torch.os.system",
    "torch.serialization.pickle.loads",
    "torch.package.PackageImporter",
    "torch.fx.GraphModule",
    "torch.nn.functional.torch.load",
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
    "torch.utils.cpp_extension.load_inline",
    "sklearn.os.system",
    "sklearn.utils.parallel.Parallel",
    "sklearn.datasets.fetch_openml",
    "joblib.load",
    "numpy.load",
    "pandas.read_pickle",
    "yaml.unsafe_load",
    "lightning.pytorch.cli.instantiate_class",
    "lightning.Trainer",
    "metalit.main.MetalitCLI",
    "metalit.main.main",
    "metalit.hyperparameters.build_arguments",
    "metalit.signals.subprocess.run",
    "metalit.loggers.message_pipe.MessagePipe",
    "metalit.callbacks.LastCheckpoint",
    "metalit.datasets.Omniglot",
    "torch.from_file",
    "torch.save",
]
PARTS = [
    "torch.nn.ReLU",
    "torch.nn.functional.relu",
    "torch.nn.functional.linear",
    "torch.tanh",
    "torch.optim.Adam",
    "torch.optim.lr_scheduler.CosineAnnealingLR",
    "sklearn.cluster.KMeans",
    "sklearn.gaussian_process.GaussianProcessRegressor",
    "metalit.networks.MLP",
    "metalit.learners.MAML",
    "metalit.combinations.Stacking",
    "metalit.estimators.load_similarity",
]
TEXTS = [
    "head.*",
    "*",
    "auto",
    "encoder.weight",
    "0.5",
    "2020-99-99",
    "a: [",
    "os.nothing",
    "torch.nn",
]


@pytest.mark.parametrize("path", RUNS_CODE)
@pytest.mark.parametrize(
    "hide",
    [
        lambda path: path,
        lambda path: {"class_path": path, "init_args": {}},
        lambda path: [{"a": [path]}],
        lambda path: {path: 1},
        lambda path: ({"a": (path,)},),
        lambda path: f"{{class_path: {path}}}",
        lambda path: f" '{path}'\n",
        lambda path: f"!!str {path}",
        lambda path: f"- '{{class_path: {path}}}'",
    ],
    ids=["text", "class", "nested", "key", "tuples", "yaml", "quoted", "tagged", "yaml in yaml"],
)
def test_what_runs_code_is_refused_wherever_it_stands(path, hide):
    with pytest.raises(ValueError, match=f"evil.ckpt names {path}, and a checkpoint may not"):
        refuse_foreign_code({"learner": hide(path)}, "evil.ckpt")


@pytest.mark.parametrize("text", [*PARTS, *TEXTS])
def test_parts_of_a_model_and_plain_texts_pass(text):
    refuse_foreign_code({"learner": {"class_path": text, "init_args": {"x": text}}}, "good.ckpt")


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A module and a package that leave a mark when they are imported, and one that was."""
    mark = f"open({str(tmp_path / 'mark')!r}, 'w').close()\nfrom torch import nn\n"
    net = "class Net(nn.Linear): ...\ndef run(command): ...\n"
    for package in ("evil_package", "known_package"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("from torch import nn\nimport os\n" + net)
        (tmp_path / package / "inner.py").write_text(mark + net)
    for module in ("evil_module", "umap", "kornia"):
        (tmp_path / f"{module}.py").write_text(mark + net)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("umap", "kornia"):
        for loaded in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
    import known_package  # noqa: F401

    yield tmp_path / "mark"
    for loaded in ("known_package", "known_package.inner"):
        sys.modules.pop(loaded, None)


@pytest.mark.parametrize(
    "path",
    [
        "evil_module.Net",
        "evil_package.Net",
        "evil_package.inner.Net",
        "umap.Net",
        "kornia.Net",
        "known_package.inner.Net",
        "known_package.inner",
        "known_package.os.system",
        "known_package.run",
    ],
)
def test_no_module_is_imported_because_a_checkpoint_says_so(modules, path):
    with pytest.raises(ValueError, match="may not choose what code is run"):
        refuse_foreign_code({"network": path}, "evil.ckpt")
    assert not modules.exists()


def test_a_class_of_a_module_that_was_imported_passes(modules):
    refuse_foreign_code({"network": "known_package.Net"}, "good.ckpt")


def test_what_the_user_names_passes_word_for_word(modules):
    own = {"network": {"class_path": "evil_module.Net"}}
    refuse_foreign_code({"network": "evil_module.Net"}, "good.ckpt", own)
    with pytest.raises(ValueError, match=r"names evil_module\.run"):
        refuse_foreign_code({"network": "evil_module.run"}, "evil.ckpt", own)


def test_a_file_of_settings_and_a_folder_of_results_are_refused(tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("class_path: os.system")
    with pytest.raises(ValueError, match="may not choose what is read"):
        refuse_foreign_code({"learner": str(settings)}, "evil.ckpt")
    with pytest.raises(ValueError, match="may not choose what is read"):
        refuse_foreign_code({"learner": {"init_args": {"memory": str(tmp_path)}}}, "evil.ckpt")
    torch.save({}, tmp_path / "encoder.ckpt")
    refuse_foreign_code({"checkpoint": str(tmp_path / "encoder.ckpt")}, "good.ckpt")


def test_a_checkpoint_cannot_choose_code_where_it_is_loaded_in_python(tmp_path, modules):
    learner = {"class_path": "evil_module.Net", "init_args": {}}
    saved = {"learner": learner, "loss": "torch.nn.MSELoss", "metric": "metalit.metrics.Accuracy"}
    torch.save({"state_dict": {}, "hyper_parameters": saved}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"names evil_module\.Net"):
        MetaLearner.load_from_checkpoint(tmp_path / "evil.ckpt")
    assert not modules.exists()


def test_nothing_is_read_where_the_environment_lets_torch_run_code(tmp_path, monkeypatch):
    torch.save({"state_dict": {}}, tmp_path / "good.ckpt")
    load_checkpoint(tmp_path / "good.ckpt")
    for value in ("1", "true", "y"):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", value)
        with pytest.raises(ValueError, match="WEIGHTS_ONLY_LOAD is set but checkpoints are read"):
            load_checkpoint(tmp_path / "good.ckpt")
        with pytest.raises(ValueError, match="WEIGHTS_ONLY_LOAD is set but checkpoints are read"):
            load_learner("clusterer")
        with pytest.raises(ValueError, match="WEIGHTS_ONLY_LOAD is set but checkpoints are read"):
            SafeCheckpointIO().load_checkpoint("memory://good.ckpt")


def test_weights_of_a_folder_cannot_choose_code_either(tmp_path, modules):
    description = {"class_path": "evil_module.Net", "init_args": {}}
    file = tmp_path / "mine.pt"
    torch.save({"state_dict": {}, "description": description}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  mine.pt\n")
    with pytest.raises(ValueError, match=r"names evil_module\.Net"):
        load_learner("mine", tmp_path)
    assert not modules.exists()
