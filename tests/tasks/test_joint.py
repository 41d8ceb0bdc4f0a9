import torch

from metalit import Episode, Samples
from metalit.augmentations import Noise
from metalit.tasks import AugmentationTasks, JointTasks, LabelTasks


def meta_batch(tasks, seeds=(0, 1)):
    drawn = [tasks.sample(torch.Generator().manual_seed(seed)) for seed in seeds]
    parts = [
        [torch.stack(part) for part in zip(*sets, strict=True)] for sets in zip(*drawn, strict=True)
    ]
    return Episode(*(Samples(*part) for part in parts))


def test_support_and_query_are_all_rows_of_the_tasks():
    x, y = torch.arange(60.0)[:, None], torch.arange(60) % 6
    tasks = LabelTasks(way=3, shot=1, query_shot=4).fit(x, y)
    alone, episodes = meta_batch(tasks), meta_batch(JointTasks(tasks))
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    joint = JointTasks(tasks).transform(episodes, generators)
    assert torch.equal(joint.support.x, joint.query.x)
    assert torch.equal(joint.support.y, joint.query.y)
    assert torch.equal(joint.query.x, torch.cat([alone.support.x, alone.query.x], 1))
    assert joint.query.x.shape == (2, 15, 1)
    assert joint.query.y[0].bincount().tolist() == [5, 5, 5]
    for rows, labels in zip(joint.query.x[..., 0].long(), joint.query.y, strict=True):
        assert len(rows.unique()) == 15
        assert all(len((rows[labels == label] % 6).unique()) == 1 for label in range(3))


def test_rows_are_joined_after_the_tasks_have_transformed_them():
    tasks = AugmentationTasks(4, 1, 2, Noise(0.3))
    joint_tasks = JointTasks(tasks).fit(torch.rand(20, 1, 4, 4))
    drawn = meta_batch(joint_tasks)
    one, other = ([torch.Generator().manual_seed(seed) for seed in (5, 6)] for _ in range(2))
    support, query = tasks.transform(drawn, one)
    joint = joint_tasks.transform(drawn, other)
    assert torch.equal(joint.query.x, torch.cat([support.x, query.x], 1))
    assert not torch.equal(joint.query.x[:, 4:], drawn.query.x)
