"""Mixtures of distributions and curricula: episodes by number alone, whatever came before."""

import json

import pytest
import torch

from metalit import Episode, EpisodeDataModule, Samples
from metalit.data import EpisodeDataset
from metalit.main import main
from metalit.tasks import Curriculum, MixedTasks, PrincipalTasks, TaskDistribution


class Marked(TaskDistribution):
    """Episodes whose inputs are a mark of their distribution and a random number."""

    def __init__(self, mark: float) -> None:
        self.mark = mark

    def sample(self, generator: torch.Generator) -> Episode:
        x = torch.tensor([[self.mark, torch.rand((), generator=generator).item()]])
        return Episode(Samples(x, torch.zeros(1).long()), Samples(x, torch.zeros(1).long()))


def curriculum(episodes: int = 400) -> Curriculum:
    return Curriculum(Marked(0.0), Marked(1.0), episodes)


def marks(tasks: TaskDistribution, numbers: range, stage: str = "train") -> list[float]:
    dataset = EpisodeDataset(tasks, seed=7, stage=stage, episodes=10_000)
    return [dataset[number].support.x[0, 0].item() for number in numbers]


def values(tasks: TaskDistribution, numbers: list[int]) -> dict[int, list[float]]:
    dataset = EpisodeDataset(tasks, seed=7, stage="train", episodes=10_000)
    return {number: dataset[number].support.x[0].tolist() for number in numbers}


def share(drawn: list[float]) -> float:
    return sum(drawn) / len(drawn)


def test_distributions_are_drawn_as_often_as_their_weights_say() -> None:
    tasks = MixedTasks([Marked(0.0), Marked(1.0)], weights=[3, 1])
    assert share(marks(tasks, range(4000))) == pytest.approx(0.25, abs=0.03)
    assert share(marks(MixedTasks(tasks.tasks), range(4000))) == pytest.approx(0.5, abs=0.03)


def test_a_curriculum_goes_from_the_first_to_the_last_distribution() -> None:
    tasks = curriculum(2000)
    assert marks(tasks, range(1)) == [0.0]
    for start, expected in ((0, 0.1), (800, 0.5), (1600, 0.9)):
        assert share(marks(tasks, range(start, start + 400))) == pytest.approx(expected, abs=0.07)
    assert set(marks(tasks, range(2000, 2200))) == {1.0}


@pytest.mark.parametrize(
    "tasks", [curriculum(), MixedTasks([Marked(0.0), Marked(1.0)])], ids=["curriculum", "mixture"]
)
def test_an_episode_does_not_depend_on_those_that_were_drawn_before(tasks) -> None:
    numbers = list(range(100, 140))
    expected = values(tasks, numbers)
    assert values(tasks, numbers[::-1]) == expected
    assert values(tasks, numbers[20:]) == {number: expected[number] for number in numbers[20:]}


def test_evaluation_sees_the_end_of_a_curriculum_from_the_start() -> None:
    assert set(marks(curriculum(), range(50), "val")) == {1.0}
    assert set(marks(curriculum(), range(50), "test")) == {1.0}
    data = EpisodeDataModule(curriculum(), val_episodes=8, episodes_per_epoch=4)
    data.setup("fit")
    seen = [batch.episodes.query.x[..., 0] for batch in data.val_dataloader()]
    assert bool((torch.cat(seen) == 1).all())


def test_curricula_inside_mixtures_and_other_tasks_go_on_too() -> None:
    inside = MixedTasks([curriculum(), curriculum()])
    assert set(marks(inside, range(1))) == {0.0}
    assert set(marks(inside, range(400, 420))) == {1.0}
    nested = Curriculum(Marked(0.0), curriculum(800), episodes=400)
    assert share(marks(nested, range(400, 800))) == pytest.approx(0.75, abs=0.1)
    around = PrincipalTasks(curriculum(), components=2)
    assert around.at(0).tasks.mark == 0.0
    assert around.at(400).tasks.mark == 1.0


def test_the_distributions_of_a_mixture_are_all_fitted() -> None:
    class Fitted(Marked):
        def fit(self, x, y=None):
            return Fitted(float(x.mean()))

    data = torch.full((6, 2), 5.0)
    tasks = MixedTasks([Fitted(0.0), Curriculum(Fitted(1.0), Fitted(2.0), 10)]).fit(data)
    assert [part.mark for part in (tasks.tasks[0], tasks.tasks[1].first, tasks.tasks[1].last)] == [
        5.0,
        5.0,
        5.0,
    ]


@pytest.mark.parametrize(
    ("tasks", "weights"), [([], None), ([Marked(0.0)], [1, 1]), ([Marked(0.0)], [0.0])]
)
def test_weights_that_do_not_fit_are_refused(tasks, weights) -> None:
    with pytest.raises(ValueError, match="with a positive weight for each"):
        MixedTasks(tasks, weights)


def test_a_curriculum_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a curriculum has 1 or more: raise it"):
        curriculum(0)


def last_weights(folder) -> dict[str, torch.Tensor]:
    (file,) = folder.rglob("last.ckpt")
    return torch.load(file, weights_only=True)["state_dict"]


def test_a_run_stopped_in_the_middle_of_a_curriculum_goes_on_bit_for_bit(sinusoids, tmp_path):
    near, far = (
        {"class_path": "SinusoidTasks", "init_args": {"shot": 5, "amplitude": amplitude}}
        for amplitude in ([0.1, 0.2], [4.0, 5.0])
    )
    course = {
        "class_path": "Curriculum",
        "init_args": {"first": near, "last": far, "episodes": 12},
    }

    def fit(folder, tasks, steps, *more):
        options = [
            f"--trainer.default_root_dir={tmp_path / folder}",
            f"--trainer.max_steps={steps}",
        ]
        options += [f"--data.init_args.tasks={json.dumps(tasks)}", *more]
        options += ["--last_checkpoint.every_n_train_steps=1", "--trainer.val_check_interval=3"]
        main(["fit", "--config", str(sinusoids), *options])
        return last_weights(tmp_path / folder)

    whole = fit("whole", course, 6)
    fit("parts", course, 3)
    resumed = fit("parts", course, 6, "--ckpt_path=last")
    other = fit("other", far, 6)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert not all(torch.equal(value, other[name]) for name, value in whole.items())
