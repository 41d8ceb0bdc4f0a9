import copy

import pytest
import torch
from torch import Tensor, nn

from metalit.callbacks import ClusterPretraining
from metalit.networks import MLP, Conv4


def clustered_images() -> Tensor:
    """Forty noisy copies of each of three images."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.rand(3, 1, 8, 8, generator=generator).repeat_interleave(40, 0)
    return 0.8 * classes + 0.2 * torch.rand(120, 1, 8, 8, generator=generator)


def make_network() -> Conv4:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Conv4(1, 5, 8, hidden=4, blocks=2)


def spread_within_clusters(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the variance of the encoder's features that lies within the clusters."""
    with torch.no_grad():
        features = network.encoder(x)
    within = torch.stack([features[y == label].var(0) for label in y.unique()]).mean(0)
    return float((within / features.var(0)).mean())


def test_only_the_encoder_of_a_copy_is_trained() -> None:
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    trained = ClusterPretraining(clusters=3, epochs=1)(network, clustered_images())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for key, value in trained.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("head."), key
    assert all(
        p.requires_grad and p is not q
        for p, q in zip(trained.parameters(), network.parameters(), strict=True)
    )
    assert not trained.training


def test_pretraining_separates_the_clusters() -> None:
    # one feature, which keeps three clusters apart only if the encoder learned to
    x, y = clustered_images(), torch.arange(3).repeat_interleave(40)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = MLP(64, [16, 1], 3, activation=nn.Tanh())
    trained = ClusterPretraining(clusters=3, epochs=30, lr=0.01)(network, x)
    assert spread_within_clusters(trained, x, y) < 0.25 * spread_within_clusters(network, x, y)


def test_pretraining_is_a_function_of_its_random_state_alone() -> None:
    random_state = torch.get_rng_state()
    first, second, other = (
        ClusterPretraining(clusters=3, epochs=1, random_state=state)(
            make_network(), clustered_images()
        ).state_dict()
        for state in (0, 0, 1)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_images_of_bytes_are_scaled_as_episodes_are() -> None:
    x = (255 * clustered_images()).round().to(torch.uint8)
    network, pretraining = make_network(), ClusterPretraining(clusters=3, epochs=1)
    first, second = pretraining(network, x), pretraining(network, x.float() / 255)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_network_without_an_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no part called encoder"):
        ClusterPretraining()(nn.Linear(2, 2), torch.rand(60, 2))
