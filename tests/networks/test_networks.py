"""Conv4 and MLP: sizes, functional gradients and errors."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from metalit.networks import MLP, Conv4


@pytest.mark.parametrize(("size", "blocks", "features"), [(28, 4, 64), (84, 4, 1600), (8, 3, 64)])
def test_conv4_has_the_features_of_the_papers(size, blocks, features):
    network = Conv4(1, 5, size, hidden=64, blocks=blocks)
    x = torch.zeros(2, 1, size, size)
    assert network.features == features
    assert network.encoder(x).shape == (2, features)
    assert network(x).shape == (2, 5)


def test_conv4_has_the_parameter_count_of_the_papers():
    # 28 x 28, 5-way: 640 + 3 x 36,928 convolution, 4 x 128 batch norm, 325 head
    assert sum(p.numel() for p in Conv4(1, 5, 28).parameters()) == 640 + 3 * 36928 + 512 + 325


def test_conv4_equals_the_explicit_operations():
    torch.manual_seed(0)
    network = Conv4(3, 4, 9, hidden=5, blocks=2).double()
    x = torch.rand(6, 3, 9, 9, dtype=torch.float64)
    expected = x
    for block in list(network.encoder)[:2]:
        convolved = F.conv2d(expected, block[0].weight, block[0].bias, padding=1)
        mean = convolved.mean((0, 2, 3), keepdim=True)
        variance = convolved.var((0, 2, 3), keepdim=True, correction=0)
        expected = F.max_pool2d(F.relu((convolved - mean) / (variance + 1e-5).sqrt()), 2)
    expected = F.linear(expected.flatten(1), network.head.weight, network.head.bias)
    torch.testing.assert_close(network(x), expected)


def test_conv4_uses_the_statistics_of_the_batch_in_evaluation_too():
    torch.manual_seed(0)
    network = Conv4(1, 3, 8, hidden=4, blocks=3)
    x = torch.rand(5, 1, 8, 8)
    trained = network(x)
    assert torch.equal(network.eval()(x), trained)
    assert list(network.buffers()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 8}, "image_size=8 is too small for blocks=4"),
        ({"image_size": 28, "hidden": 0}, "hidden=0"),
        ({"image_size": 28, "blocks": 0}, "blocks=0"),
    ],
)
def test_conv4_refuses_sizes_that_cannot_work(arguments, message):
    with pytest.raises(ValueError, match=message):
        Conv4(1, 5, **arguments)


@pytest.mark.parametrize(
    ("hidden", "parameters"),
    [(32, 10 * 32 + 32 + 32 * 3 + 3), ([4, 5], 44 + 25 + 18), ([], 33)],
)
def test_mlp_has_the_layers_asked_for(hidden, parameters):
    network = MLP(10, hidden, 3)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network(torch.zeros(7, 2, 5)).shape == (7, 3)
    assert network.encoder(torch.zeros(7, 10)).shape == (7, network.features)


def test_mlp_equals_the_explicit_operations():
    torch.manual_seed(0)
    network = MLP(3, [4, 5], 2, activation=nn.Tanh())
    x = torch.randn(6, 3)
    first, second = network.encoder[1], network.encoder[3]
    hidden = torch.tanh(torch.tanh(x @ first.weight.T + first.bias) @ second.weight.T + second.bias)
    torch.testing.assert_close(network(x), hidden @ network.head.weight.T + network.head.bias)


def test_mlp_without_activation_uses_relu():
    network = MLP(1, [2, 2], 1)
    assert [type(layer) for layer in network.encoder] == [nn.Flatten, *[nn.Linear, nn.ReLU] * 2]


def test_mlp_with_a_trained_activation_gives_every_parameter_a_gradient():
    network = MLP(3, [4, 4], 2, activation=nn.PReLU())
    params = dict(network.named_parameters())

    def loss(p):
        return functional_call(network, p, torch.ones(2, 3)).square().sum()

    grads = grad(loss)(params)
    outputs = functional_call(network, params, torch.ones(2, 3))
    explicit = torch.autograd.grad(outputs.square().sum(), list(params.values()))
    for name, expected in zip(params, explicit, strict=True):
        torch.testing.assert_close(grads[name], expected)


def test_mlp_refuses_a_layer_without_units():
    with pytest.raises(ValueError, match=r"hidden=\[4, 0\]"):
        MLP(3, [4, 0], 2)


@pytest.mark.parametrize("network", [MLP(16, 4, 3), Conv4(1, 3, 4, hidden=2, blocks=2)])
def test_vmap_over_tasks_equals_a_loop(network):
    params = {name: p.detach().double() for name, p in network.named_parameters()}
    x = torch.rand(2, 5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batched = vmap(lambda images: functional_call(network, params, images))(x)
    looped = torch.stack([functional_call(network, params, images) for images in x])
    torch.testing.assert_close(batched, looped)


def test_arguments_are_kept_under_their_own_names():
    conv4, mlp = Conv4(1, 5, 28, hidden=8, blocks=2), MLP(3, [4], 2)
    assert (conv4.in_channels, conv4.way, conv4.image_size) == (1, 5, 28)
    assert (conv4.hidden, conv4.blocks) == (8, 2)
    assert (mlp.in_features, mlp.hidden, mlp.out_features, mlp.activation) == (3, [4], 2, None)
