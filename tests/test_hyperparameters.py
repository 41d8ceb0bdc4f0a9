import json
from functools import partial
from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_moons
from sklearn.decomposition import PCA
from torch import nn

from metalit import EpisodeDataModule, MetaLearner
from metalit.hyperparameters import UndescribableError, build_arguments, describe
from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.metrics import Accuracy
from metalit.networks import MLP
from metalit.tasks import BlobTasks, ClusterTasks


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
