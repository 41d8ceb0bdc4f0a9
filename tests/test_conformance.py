"""What every Learner, InnerLoop, augmentation, metric and loss must do: one suite for all classes.

A new class is found by itself and needs one line in the table of examples. The suite of the
distributions over tasks is tests/tasks/test_task_conformance.py.
"""

import copy
import json
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from metalit import MetaLearner, Samples, augmentations, losses, metrics
from metalit.hyperparameters import build_arguments, describe
from metalit.inner_loops import GradientDescent, InnerLoop
from metalit.learners import (
    ACR,
    MAML,
    AmortizedClusterer,
    AmortizedDetector,
    EmbeddedKMeans,
    FineTuned,
    Learner,
    PairwiseSimilarity,
    Prototypes,
    Readout,
    SelfSupervised,
    SklearnClassifier,
    SklearnClusterer,
    SklearnDetector,
    SklearnRegressor,
    SupervisedMetaLearner,
    TwoViews,
    UnsupervisedMetaLearner,
)
from metalit.networks import MLP
from metalit.tasks import (
    AugmentationTasks,
)

# every concrete class has an example; learners take 4 features and have 3 outputs
LEARNERS: dict[str, Callable[[], Learner]] = {
    "MAML": lambda: MAML(MLP(4, 8, 3), GradientDescent(0.1, steps=2), nn.CrossEntropyLoss()),
    "EmbeddedKMeans": lambda: EmbeddedKMeans(MLP(4, 8, 5), 3, train_on="clusters"),
    "FineTuned": lambda: FineTuned(
        MLP(4, 8, 3), nn.CrossEntropyLoss(), partial(torch.optim.Adam, lr=0.01), epochs=2
    ),
    "Prototypes": lambda: Prototypes(MLP(4, 8, 5)),
    "Readout": lambda: Readout(SklearnClusterer(KMeans(), n_clusters=3)),
    "SelfSupervised": lambda: SelfSupervised(
        MAML(MLP(4, 8, 3), GradientDescent(0.1), losses.MutualInformation(consistency=1.0)),
        TwoViews(noise=0.1),
    ),
    "SklearnClassifier": lambda: SklearnClassifier(GaussianNB()),
    "SklearnClusterer": lambda: SklearnClusterer(KMeans(), n_clusters=3),
    "SupervisedMetaLearner": lambda: SupervisedMetaLearner(
        {
            "maml": MAML(MLP(4, 8, 3), GradientDescent(0.1), nn.CrossEntropyLoss()),
            "tree": SklearnClassifier(DecisionTreeClassifier()),
            "prototypes": Prototypes(MLP(4, 8, 5)),
        }
    ),
    "UnsupervisedMetaLearner": lambda: UnsupervisedMetaLearner(
        SklearnClassifier(GaussianNB()), n_clusters=3
    ),
}
OTHER_LEARNERS = {  # one output, targets, or pairs: tests/learners has their tests
    "ACR": ACR,
    "AmortizedClusterer": AmortizedClusterer,
    "AmortizedDetector": AmortizedDetector,
    "PairwiseSimilarity": PairwiseSimilarity,
    "SklearnDetector": SklearnDetector,
    "SklearnRegressor": SklearnRegressor,
}
BLIND = {
    "EmbeddedKMeans",
    "SelfSupervised",
    "SklearnClusterer",
    "UnsupervisedMetaLearner",
}  # never look at the support labels
INNER_LOOPS: dict[str, Callable[[int], InnerLoop]] = {  # from a number of steps
    "GradientDescent": lambda steps: GradientDescent(lr=0.1, steps=steps),
}
AUGMENTATIONS: dict[str, Callable[[], augmentations.Augmentation]] = {
    "Affine": lambda: augmentations.Affine(degrees=20, translate=0.1, scale=(0.8, 1.2)),
    "Compose": lambda: augmentations.Compose([augmentations.Flip(), augmentations.Noise(0.2)]),
    "Elastic": lambda: augmentations.Elastic(0.1, points=3),
    "Erase": lambda: augmentations.Erase(0.9, area=(0.1, 0.2)),
    "Flip": lambda: augmentations.Flip(vertical=0.3),
    "FromModule": lambda: augmentations.FromModule(nn.Dropout(0.3)),
    "Noise": lambda: augmentations.Noise(0.2),
    "PixelDropout": lambda: augmentations.PixelDropout(0.2),
    "Shift": lambda: augmentations.Shift(1, fill=0.5),
}
METRICS: dict[str, Callable[[], metrics.EpisodeMetric]] = {
    "AUROC": metrics.AUROC,
    "Accuracy": metrics.Accuracy,
    "AdjustedRand": metrics.AdjustedRand,
    "MatchedAccuracy": metrics.MatchedAccuracy,
    "MeanSquaredError": metrics.MeanSquaredError,
    "NormalizedMutualInfo": metrics.NormalizedMutualInfo,
    "PairAUROC": metrics.PairAUROC,
}
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "BinaryCrossEntropy": losses.BinaryCrossEntropy,
    "OneClassCrossEntropy": losses.OneClassCrossEntropy,
    "DEC": losses.DEC,
    "DeepKMeans": lambda: losses.DeepKMeans(temperature=0.5),
    "DeepSVDD": lambda: losses.DeepSVDD(nu=0.1),
    "DensityRatio": lambda: losses.DensityRatio(power=0.5),
    "CrossEntropyLoss": lambda: nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=-1),
    "MSELoss": nn.MSELoss,
    "MatchedCrossEntropy": losses.MatchedCrossEntropy,
    "MutualInformation": lambda: losses.MutualInformation(marginal=4.0, consistency=0.5),
    "OutlierExposure": lambda: losses.OutlierExposure(weight=0.5),
    "PairwiseCrossEntropy": lambda: losses.PairwiseCrossEntropy(balanced=True),
    "PairwiseLogistic": losses.PairwiseLogistic,
    "SimilarityCrossEntropy": losses.SimilarityCrossEntropy,
    "SoftAdjustedRand": losses.SoftAdjustedRand,
    "SoftKMeans": lambda: losses.SoftKMeans(temperature=0.5),
}
PARTS = {**AUGMENTATIONS, **METRICS, **LOSSES}

every_learner = pytest.mark.parametrize("name", LEARNERS)
every_inner_loop = pytest.mark.parametrize("name", INNER_LOOPS)


@pytest.mark.parametrize(
    ("base", "examples"),
    [
        (Learner, {**LEARNERS, **OTHER_LEARNERS}),
        (InnerLoop, INNER_LOOPS),
        (augmentations.Augmentation, AUGMENTATIONS),
        (metrics.EpisodeMetric, METRICS),
    ],
)
def test_every_class_has_an_example(base: type, examples: dict[str, Any], concrete_classes) -> None:
    missing = concrete_classes(base) - set(examples)
    assert not missing, (
        f"{sorted(missing)} below {base.__name__} have no example but every class is to be tested: "
        f"add a line to the table of examples in {__file__}."
    )


def test_every_loss_has_an_example() -> None:
    assert set(losses.__all__) <= set(LOSSES)


@pytest.mark.parametrize(
    "examples", [LEARNERS, INNER_LOOPS, AUGMENTATIONS, METRICS, LOSSES], ids=len
)
def test_every_example_is_of_the_class_that_it_is_named_after(examples: dict[str, Any]) -> None:
    for name, make in examples.items():
        made = make(1) if examples is INNER_LOOPS else make()
        assert type(made).__name__ == name


# learners


def make_learner(name: str, dtype: torch.dtype = torch.float64) -> Learner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LEARNERS[name]().to(dtype)


def make_task(
    shot: int = 2, queries: int = 5, dtype: torch.dtype = torch.float64
) -> tuple[Samples, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3 * shot + queries, 4, generator=generator).to(dtype)
    y = torch.arange(3).repeat_interleave(shot)
    return Samples(x[: 3 * shot], y), x[3 * shot :]


@every_learner
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shot", "queries"), [(2, 5), (1, 1), (7, 20)])
def test_a_learner_answers_tasks_of_any_size(
    name: str, dtype: torch.dtype, shot: int, queries: int
) -> None:
    learner = make_learner(name, dtype)
    support, query = make_task(shot, queries, dtype)
    learner.check(support)
    outputs = learner(support, query)
    assert outputs.shape == (queries, 3)
    assert outputs.dtype == dtype
    assert outputs.isfinite().all()


@every_learner
def test_the_outer_gradient_reaches_every_parameter_of_a_learner(name: str) -> None:
    learner = make_learner(name)
    support, query = make_task()
    trainable = [(n, p) for n, p in learner.named_parameters() if p.requires_grad]
    outputs = learner(support, query)
    assert outputs.requires_grad == bool(trainable)
    if trainable:
        nn.functional.cross_entropy(outputs, torch.arange(5) % 3).backward()
    for parameter, value in trainable:
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
        assert value.grad.any(), parameter


@every_learner
def test_a_learner_depends_on_its_support_set(name: str) -> None:
    learner = make_learner(name)
    support, query = make_task()
    other = support._replace(y=support.y.flip(0))
    assert torch.equal(learner(support, query), learner(other, query)) == (name in BLIND)
    moved = support._replace(x=support.x.flip(0) ** 2)
    assert not torch.equal(learner(support, query), learner(moved, query))


@every_learner
def test_what_a_learner_learned_answers_any_query_and_can_be_pickled(name: str) -> None:
    learner = make_learner(name).eval()
    support, query = make_task(shot=3)
    with torch.no_grad():
        predictor = learner.learn(support)
        assert torch.equal(predictor(query), learner(support, query))
        assert torch.equal(pickle.loads(pickle.dumps(predictor))(query), predictor(query))


@every_learner
def test_a_learner_changes_neither_itself_nor_its_task(name: str) -> None:
    learner = make_learner(name)
    support, query = make_task()
    before = copy.deepcopy(learner.state_dict())
    learner(support, query)
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())
    (kept, kept_query) = make_task()
    assert all(map(torch.equal, (*support, query), (*kept, kept_query)))


@every_learner
def test_a_learner_in_evaluation_gives_the_same_answer_twice(name: str) -> None:
    learner = make_learner(name).eval()
    assert torch.equal(learner(*make_task()), learner(*make_task()))


@every_learner
def test_the_state_dict_of_a_learner_holds_all_that_it_knows(name: str) -> None:
    learner, other = make_learner(name), LEARNERS[name]().double()
    other.load_state_dict(learner.state_dict())
    assert torch.equal(learner.eval()(*make_task()), other.eval()(*make_task()))


@every_learner
def test_a_learner_can_be_built_again_from_its_description(name: str) -> None:
    learner = make_learner(name)
    description = json.loads(json.dumps(describe(learner)))
    built = build_arguments(MetaLearner, {"learner": description})["learner"]
    assert type(built) is type(learner)
    assert describe(built) == description
    built.double().load_state_dict(learner.state_dict())
    assert torch.equal(learner.eval()(*make_task()), built.eval()(*make_task()))


# inner loops


def make_params() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (3, 2), "bias": (3,), "scale": ()}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }


def smooth_loss(params: dict[str, Tensor]) -> Tensor:
    return sum((value - 1).pow(4).sum() for value in params.values())


@every_inner_loop
def test_an_inner_loop_keeps_names_shapes_and_dtypes(name: str) -> None:
    fast = INNER_LOOPS[name](3)(smooth_loss, make_params())
    for key, value in make_params().items():
        assert fast[key].shape == value.shape
        assert fast[key].dtype == value.dtype
    assert len(fast) == 3


@every_inner_loop
def test_an_inner_loop_does_not_change_the_initial_parameters(name: str) -> None:
    params, kept = make_params(), make_params()
    INNER_LOOPS[name](3)(smooth_loss, params)
    assert all(torch.equal(params[key], kept[key]) for key in kept)
    assert params.keys() == kept.keys()


@every_inner_loop
def test_an_inner_loop_of_zero_steps_is_the_identity(name: str) -> None:
    fast = INNER_LOOPS[name](0)(smooth_loss, make_params())
    assert all(torch.equal(fast[key], value) for key, value in make_params().items())


@every_inner_loop
def test_an_inner_loop_lowers_the_loss(name: str) -> None:
    params = {key: 0.5 * value for key, value in make_params().items()}
    assert smooth_loss(INNER_LOOPS[name](3)(smooth_loss, params)) < smooth_loss(params)


@every_inner_loop
def test_an_inner_loop_can_be_differentiated_to_the_initial_parameters(name: str) -> None:
    loop, params = INNER_LOOPS[name](2), make_params()
    keys, values = list(params), list(params.values())

    def adapt(*initial: Tensor) -> tuple[Tensor, ...]:
        return tuple(loop(smooth_loss, dict(zip(keys, initial, strict=True))).values())

    # against finite differences
    start = [(0.3 * value).detach().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(adapt, start)


@every_inner_loop
def test_an_inner_loop_can_be_built_again_from_its_description(name: str) -> None:
    description = json.loads(json.dumps(describe(INNER_LOOPS[name](3))))
    built = build_arguments(MAML, {"inner_loop": description})["inner_loop"]
    assert describe(built) == description
    fast, again = (loop(smooth_loss, make_params()) for loop in (INNER_LOOPS[name](3), built))
    assert all(torch.equal(fast[key], again[key]) for key in fast)


# augmentations, metrics and losses


def build_part(part: nn.Module) -> Any:
    """Build an object again from its description, as an argument that takes its kind."""
    target, argument = (MetaLearner, "loss")
    if isinstance(part, augmentations.Augmentation):
        target, argument = AugmentationTasks, "augmentation"
    elif isinstance(part, metrics.EpisodeMetric):
        target, argument = MetaLearner, "metric"
    description = json.loads(json.dumps(describe(part)))
    return build_arguments(target, {argument: description})[argument]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_can_be_built_again_from_its_description(name: str) -> None:
    part = PARTS[name]()
    built = build_part(part)
    assert type(built) is type(part)
    assert describe(built) == describe(part)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_built_again_does_the_same(name: str) -> None:
    part = AUGMENTATIONS[name]()
    x = torch.rand(2, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    one, other = ([torch.Generator().manual_seed(seed) for seed in (0, 1)] for _ in range(2))
    assert torch.equal(part(x, one), build_part(part)(x, other))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_gives_one_float_an_episode_and_has_a_name(name: str) -> None:
    metric = METRICS[name]()
    generator = torch.Generator().manual_seed(0)
    width = {"AUROC": 1, "MeanSquaredError": 1, "PairAUROC": 6}.get(name, 3)
    outputs = torch.randn(4, 6, width, generator=generator)
    y = torch.arange(6).remainder(2).expand(4, 6)
    values = metric(outputs, outputs + 1 if name == "MeanSquaredError" else y)
    assert values.shape == (4,)
    assert values.dtype == torch.float32
    assert metric.name.isidentifier()
