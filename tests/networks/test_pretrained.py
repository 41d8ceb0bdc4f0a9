from pathlib import Path

import pytest
import torch
from torch import nn

from metalit.inner_loops import GradientDescent
from metalit.learners import MAML
from metalit.meta_learner import MetaLearner
from metalit.metrics import Accuracy
from metalit.networks import MLP
from metalit.networks.pretrained import PretrainedEncoder
from metalit.tasks.clusters import ClusterTasks


@pytest.fixture
def trained(tmp_path: Path) -> tuple[MetaLearner, str]:
    maml = MAML(MLP(6, [8, 4], 3), GradientDescent(lr=0.1), nn.CrossEntropyLoss())
    model = MetaLearner(maml, nn.CrossEntropyLoss(), Accuracy())
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    return model, str(tmp_path / "last.ckpt")


def test_it_encodes_as_the_part_of_the_trained_model(trained: tuple[MetaLearner, str]) -> None:
    model, path = trained
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    encoder = PretrainedEncoder(path)
    assert torch.equal(encoder(x), model.get_submodule("learner.network.encoder")(x))
    assert torch.equal(
        PretrainedEncoder(path, "learner.network")(x), model.get_submodule("learner.network")(x)
    )


def test_it_is_frozen_and_stays_in_evaluation_mode(trained: tuple[MetaLearner, str]) -> None:
    encoder = PretrainedEncoder(trained[1]).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder(torch.zeros(2, 6)).requires_grad


def test_it_embeds_the_data_of_cluster_tasks(trained: tuple[MetaLearner, str]) -> None:
    x = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    tasks = ClusterTasks(3, 1, 2, clusters=4, partitions=2, embedding=PretrainedEncoder(trained[1]))
    assert tasks.fit(x).sample(torch.Generator().manual_seed(0)).query.x.shape == (6, 6)


def test_a_missing_file_or_part_is_named(trained: tuple[MetaLearner, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing.ckpt' is no file but a checkpoint is needed"):
        PretrainedEncoder(str(tmp_path / "nothing.ckpt"))
    with pytest.raises(ValueError, match=r"no part 'head'.*choose from learner, learner.network"):
        PretrainedEncoder(trained[1], "head")
