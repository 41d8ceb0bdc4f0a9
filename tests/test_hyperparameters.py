import json
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from sklearn.cluster import KMeans
from sklearn.datasets import make_moons
from sklearn.decomposition import PCA
from torch import nn

from metalit import EpisodeDataModule, MetaLearner
from metalit.hyperparameters import UndescribableError, build_arguments, describe
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy, MeanSquaredError
from metalit.networks import MLP
from metalit.tasks import BlobTasks, ClusterTasks, SinusoidTasks


class Word(StrEnum):
    A = "a"


class Forgetful(nn.Module):
    """Does not keep its argument."""

    def __init__(self, size: int) -> None:
        super().__init__()


UNDESCRIBABLE = [
    Forgetful(2),
    [Forgetful(2)],
    lambda x: x,
    partial(int, "1"),
    nn.Sequential(nn.Linear(1, 1)),
    torch.zeros(2),
    nn.Parameter(torch.zeros(2)),
    nn.CrossEntropyLoss(weight=torch.ones(2)),
    range(3),
]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("head.*", "head.*"),
        ((1, [2.0, "x"]), [1, [2.0, "x"]]),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        (make_moons, "sklearn.datasets._samples_generator.make_moons"),
        (torch.optim.SGD, {"class_path": "torch.optim.sgd.SGD"}),
        (
            partial(torch.optim.SGD, lr=0.1),
            {"class_path": "torch.optim.sgd.SGD", "init_args": {"lr": 0.1}},
        ),
        (
            GradientDescent(lr=0.1, steps=2),
            {
                "class_path": "metalit.inner_loops.gradient_descent.GradientDescent",
                "init_args": {
                    "lr": 0.1,
                    "steps": 2,
                    "eval_steps": None,
                    "first_order": False,
                    "memory": "auto",
                    "mixed_precision": False,
                },
            },
        ),
    ],
)
def test_values_are_written_as_in_a_config(value: Any, wanted: Any) -> None:
    assert describe(value) == wanted
    assert json.loads(json.dumps(describe(value))) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int64(2), 2),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Word.A, "a"),
    ],
)
def test_values_of_other_libraries_are_plain_ones(value: Any, wanted: Any) -> None:
    found = describe([value])[0]
    assert found == wanted
    assert type(found) is type(wanted)


def test_an_estimator_is_described_by_its_parameters() -> None:
    description = describe(KMeans(n_clusters=3))
    assert description["class_path"] == "sklearn.cluster._kmeans.KMeans"
    assert description["init_args"]["n_clusters"] == 3


@pytest.mark.parametrize("value", UNDESCRIBABLE)
def test_what_does_not_keep_its_arguments_cannot_be_described(value: Any) -> None:
    with pytest.raises(UndescribableError):
        describe(value)


def test_nested_objects_are_built_again() -> None:
    learner = MAML(
        MLP(4, [8, 8], 3, activation=nn.Tanh()),
        GradientDescent(lr=0.1, steps=2, first_order=True),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        adapt="head.*",
    )
    description = json.loads(json.dumps(describe(learner)))
    built = build_arguments(MetaLearner, {"learner": description})["learner"]
    assert describe(built) == description
    assert built.inner_loop.first_order
    assert built.inner_loss.label_smoothing == 0.1
    assert isinstance(built.network.activation, nn.Tanh)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        partial(nn.Linear, 2, 3),
        partial(nn.Bilinear, 2, 2, 3),
        partial(nn.Conv2d, 1, 2, 3, padding="same"),
        partial(nn.Conv1d, 1, 2, 3, stride=2),
        partial(nn.ConvTranspose2d, 1, 2, (3, 2)),
        partial(nn.LayerNorm, 4),
        partial(nn.LayerNorm, (2, 4), elementwise_affine=False),
    ],
)
def test_layers_of_torch_are_built_again_with_a_bias_or_without(make: Any, bias: bool) -> None:
    layer = make(bias=bias)
    description = json.loads(json.dumps(describe(layer)))
    assert description["init_args"]["bias"] == (layer.bias is not None)
    assert not {"device", "dtype"} & set(description["init_args"])
    built = build_arguments(MAML, {"network": description})["network"]
    assert describe(built) == description
    assert str(built) == str(layer)
    built.load_state_dict(layer.state_dict())


def test_a_layer_of_torch_as_a_network_is_loaded_from_a_checkpoint(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    maml = MAML(network, GradientDescent(lr=0.01), nn.MSELoss())
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=1,
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = EpisodeDataModule(SinusoidTasks(3), meta_batch_size=2, episodes_per_epoch=2)
    trainer.fit(MetaLearner(maml, nn.MSELoss(), MeanSquaredError()), data)
    (file,) = tmp_path.rglob("*.ckpt")
    loaded: Any = MetaLearner.load_from_checkpoint(file).learner
    assert torch.equal(loaded.network.weight, network.weight)


def test_estimators_and_functions_inside_tasks_are_built_again() -> None:
    for tasks in (
        ClusterTasks(3, 1, 2, clusters=5, embedding=PCA(4), clusterer=KMeans(7)),
        BlobTasks(9, 9, way=2, maker=make_moons, maker_args={"noise": 0.1}, teacher=KMeans(2)),
    ):
        description = json.loads(json.dumps(describe(tasks)))
        built = build_arguments(EpisodeDataModule, {"tasks": description})["tasks"]
        assert describe(built) == description


@pytest.mark.parametrize(
    ("optimizer", "rate"), [(partial(torch.optim.SGD, lr=0.1), 0.1), (torch.optim.Adam, 0.001)]
)
def test_an_optimizer_is_built_again_as_a_factory(optimizer: Any, rate: float) -> None:
    description = json.loads(json.dumps(describe(optimizer)))
    built = build_arguments(MetaLearner, {"optimizer": description})["optimizer"]
    assert describe(built)["class_path"] == description["class_path"]
    made = built([nn.Parameter(torch.zeros(1))])
    assert type(made).__name__ in ("SGD", "Adam")
    assert made.param_groups[0]["lr"] == rate


@pytest.mark.parametrize(
    "arguments",
    [
        {"learner": {"class_path": "metalit.no.SuchClass"}},
        {"learner": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 1}}},
        {"seed": "many"},
    ],
)
def test_a_description_that_does_not_fit_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot build MetaLearner"):
        build_arguments(MetaLearner, arguments)


def test_nothing_is_built_from_no_arguments() -> None:
    assert build_arguments(MetaLearner, {}) == {}


def test_only_the_arguments_given_are_built() -> None:
    assert set(build_arguments(MetaLearner, {"metric": describe(Accuracy())})) == {"metric"}
