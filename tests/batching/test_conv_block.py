"""The fused convolution block against the operations of torch that it stands for."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metalit.batching.conv_block import Geometry, conv_block, prefers_patches
from metalit.batching.image_rules import convolve_all
from metalit.batching.patches import Patches
from metalit.batching.pooling import CACHE, images_per_slice
from metalit.batching.task_tensor import TaskTensor

EPS = 1e-3

# images, channels in and out, height and width, kernel, stride, padding, dilation, groups
SHAPES = {
    "first layer": (5, 2, 32, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "tasks": (5, 6, 60, (9, 7), (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "stride": (4, 1, 12, (11, 12), (3, 2), (2, 1), (0, 1), (1, 1), 1),
    "dilation": (3, 2, 40, (11, 10), (3, 3), (1, 2), (2, 1), (2, 1), 2),
    "one image": (1, 2, 36, (10, 10), (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "hidden layer": (5, 6, 4, (9, 8), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "depthwise": (3, 6, 6, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 6),
}
ENDS = {
    "norm": (False, None),
    "norm, relu": (True, None),
    "norm, pool": (False, (2, 2)),
    "norm, relu, pool": (True, (2, 2)),
    "norm, relu, wide pool": (True, (3, 2)),
}


def native(
    x: Tensor, weight: Tensor, gamma: Tensor | None, beta: Tensor | None, geometry: Geometry,
    eps: float = 1e-5, relu: bool = False, window: tuple[int, int] | None = None,
) -> Tensor:  # fmt: skip
    s, p, d, groups = geometry
    y = F.conv2d(x, weight, None, s, p, d, groups)
    y = F.batch_norm(y, None, None, gamma, beta, True, 0.0, eps)
    y = torch.relu(y) if relu else y
    return y if window is None else F.max_pool2d(y, window)


def make(shape: tuple, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple:
    n, c_in, c_out, size, kernel, stride, padding, dilation, groups = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator, dtype=torch.float64).to(dtype)

    x = normal(n, c_in, *size) + 1
    weight, gamma, beta = normal(c_out, c_in // groups, *kernel), normal(c_out), normal(c_out)
    return x, weight, gamma, beta, Geometry(list(stride), list(padding), list(dilation), groups)


def derivatives(block, inputs: tuple, geometry: Geometry, with_x: bool, **end) -> list[Tensor]:
    """Return the output, the gradients, and the gradients of a sum over the gradients."""
    x, *others = (t if t is None else t.detach().requires_grad_() for t in inputs)
    if not with_x:
        x = x.detach()
    y = block(x, *others, geometry, eps=EPS, **end)
    generator = torch.Generator().manual_seed(1)

    def like(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype)

    cotangent = like(y).requires_grad_()
    leaves = [t for t in [x, *others] if t is not None and t.requires_grad]
    first = torch.autograd.grad(y, leaves, cotangent, create_graph=True)
    # the square of the output sends something through the first derivatives of the forward pass
    total = sum((g * like(g)).sum() for g in first) + (y**2 * like(y)).sum()
    second = torch.autograd.grad(total, [*leaves, cotangent])
    return [y.detach(), *(g.detach() for g in first), *second]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-10) -> None:
    scale = max(float(e.norm()) for e in expected)
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape
        # a gradient that is 0 but for rounding has no relative error
        assert float((f - e).norm()) <= tolerance * max(float(e.norm()), 1e-3 * scale)


@pytest.mark.parametrize("images", [1, 2, None])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_x", [False, True], ids=["images", "activations"])
def test_values_and_first_and_second_derivatives_are_those_of_torch(shape, end, with_x, images):
    *inputs, geometry = make(SHAPES[shape])
    relu, window = ENDS[end]
    expected = derivatives(native, inputs, geometry, with_x, relu=relu, window=window)
    found = derivatives(
        conv_block, inputs, geometry, with_x, relu=relu, window=window, images=images
    )
    assert_same(found, expected)


def test_first_layers_with_few_channels_are_products_with_patches_and_no_others():
    chosen = []
    for name, shape in SHAPES.items():
        x, weight, _, _, geometry = make(shape)
        assert not prefers_patches(x.requires_grad_(), weight, geometry)
        if prefers_patches(x.detach(), weight, geometry):
            chosen.append(name)
    assert chosen == ["first layer", "tasks", "stride", "dilation", "one image"]


@pytest.mark.parametrize("with_x", [False, True])
@pytest.mark.parametrize("window", [None, (2, 2)])
def test_a_norm_may_have_no_weights_and_no_biases(with_x, window):
    x, weight, _, _, geometry = make(SHAPES["first layer"])
    inputs = (x, weight, None, None)
    expected = derivatives(native, inputs, geometry, with_x, relu=True, window=window)
    found = derivatives(conv_block, inputs, geometry, with_x, relu=True, window=window, images=2)
    assert_same(found, expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_x", [False, True])
def test_norm_weights_of_exactly_zero_take_the_first_pixel_of_each_window(with_x, relu):
    x, weight, gamma, beta, geometry = make(SHAPES["tasks"])
    gamma[::3] = 0
    inputs = (x, weight, gamma, beta)
    expected = derivatives(native, inputs, geometry, with_x, relu=relu, window=(2, 2))
    found = derivatives(conv_block, inputs, geometry, with_x, relu=relu, window=(2, 2), images=2)
    assert_same(found, expected)


@pytest.mark.parametrize("with_x", [False, True])
def test_of_equal_pixels_of_a_window_the_first_one_counts(with_x):
    x, weight, gamma, beta, geometry = make(SHAPES["first layer"])
    x[:, :, 2:, 1:] = 0.5  # a large even area, as in pictures of letters
    # sums of whole numbers are the same in any order, so that ties stay ties
    inputs = ((4 * x).round(), (4 * weight).round(), gamma.abs() + 1, beta)
    expected = derivatives(native, inputs, geometry, with_x, relu=True, window=(2, 2))
    found = derivatives(conv_block, inputs, geometry, with_x, relu=True, window=(2, 2), images=2)
    assert_same(found, expected)


@pytest.mark.parametrize("with_x", [False, True])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_single_precision_is_as_accurate_as_that_of_torch(with_x, offset):
    shape = (20, 2, 24, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1), 1)
    *inputs, geometry = make(shape)
    inputs[0] += offset
    end = {"relu": False, "window": None}
    exact = derivatives(native, inputs, geometry, with_x, **end)
    inputs = [t.float() for t in inputs]
    plain = derivatives(native, inputs, geometry, with_x, **end)
    found = derivatives(conv_block, inputs, geometry, with_x, images=3, **end)
    for f, p, e in zip(found, plain, exact, strict=True):
        error, usual = (float((t.double() - e).norm() / e.norm()) for t in (f, p))
        assert error <= 3 * usual + 1e-6


def test_a_large_constant_in_the_images_costs_no_accuracy():
    *inputs, geometry = make((20, 2, 24, (14, 14), (3, 3), (1, 1), (0, 0), (1, 1), 1))
    inputs = [t.float() for t in inputs]
    moved = [inputs[0] + 1024, *inputs[1:]]
    inputs[0] = moved[0] - 1024  # what is left after rounding
    end = {"relu": True, "window": (2, 2)}
    expected = derivatives(conv_block, inputs, geometry, False, **end)
    assert_same(derivatives(conv_block, moved, geometry, False, **end), expected, 1e-3)


def test_activations_of_a_first_layer_are_not_kept_for_the_backward_pass():
    *inputs, geometry = make((8, 1, 64, (32, 32), (3, 3), (1, 1), (1, 1), (1, 1), 1))
    x, *others = inputs
    kept = []

    def pack(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        conv_block(x, *(t.requires_grad_() for t in others), geometry, relu=True, window=(2, 2))
    assert kept
    assert max(t.numel() for t in kept) <= 8 * 64 * 16 * 16


def test_slices_fit_the_cache_and_have_at_least_one_image():
    x = torch.zeros(75, 1, 28, 28)
    assert images_per_slice(x, 64 * 28 * 28) == CACHE // (64 * 28 * 28 * 4)
    assert images_per_slice(x, 2**24) == 1
    assert images_per_slice(x, 4) == 75


@pytest.mark.parametrize("with_x", [False, True])
def test_a_single_value_for_each_channel_is_refused(with_x):
    x, weight = torch.zeros(1, 1, 3, 3, requires_grad=with_x), torch.ones(16, 1, 3, 3)
    geometry = Geometry([1, 1], [0, 0], [1, 1], 1)
    with pytest.raises(ValueError, match=r"1 values a channel.*needs at least 2"):
        conv_block(x, weight, None, None, geometry)


@pytest.mark.parametrize("with_x", [False, True])
def test_images_with_other_channels_than_the_weights_are_refused(with_x):
    x, weight = torch.zeros(2, 4, 9, 9, requires_grad=with_x), torch.ones(32, 1, 3, 3)
    geometry = Geometry([1, 1], [0, 0], [1, 1], 2)
    with pytest.raises(ValueError, match=r"4 channels, but 2 groups.*need 2"):
        conv_block(x, weight, None, None, geometry)


@pytest.mark.parametrize("with_x", [False, True])
def test_a_window_larger_than_the_images_is_refused(with_x):
    x, weight = torch.zeros(2, 1, 9, 9, requires_grad=with_x), torch.ones(32, 1, 3, 3)
    geometry = Geometry([1, 1], [0, 0], [1, 1], 1)
    with pytest.raises(RuntimeError, match="too small"):
        conv_block(x, weight, None, None, geometry, window=(8, 8))


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = []
    for channels in (1, 12, 12):
        layers += [
            nn.Conv2d(channels, 12, 3, padding=1),
            nn.BatchNorm2d(12, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 3)).double()


def adapted_loss(net: nn.Module, params: dict, support: tuple, query: tuple, steps: int) -> Tensor:
    def loss(values: dict, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, values, x), y)

    for _ in range(steps):
        grads = torch.autograd.grad(
            loss(params, *support), list(params.values()), create_graph=True
        )
        params = {k: p - 0.1 * g for (k, p), g in zip(params.items(), grads, strict=True)}
    return loss(params, *query)


@pytest.mark.parametrize("steps", [1, 3])
def test_meta_gradients_of_many_tasks_at_once_are_those_of_a_loop(steps):
    net = network()
    for parameter in net[1].parameters():  # norm weights of both signs
        nn.init.normal_(parameter)
    params = dict(net.named_parameters())
    xs, xq = torch.rand(3, 5, 1, 9, 8).double(), torch.rand(3, 7, 1, 9, 8).double()
    ys, yq = torch.randint(3, (3, 5)), torch.randint(3, (3, 7))
    losses = [adapted_loss(net, params, (xs[i], ys[i]), (xq[i], yq[i]), steps) for i in range(3)]
    expected = torch.autograd.grad(sum(losses), list(params.values()))
    batched = {k: TaskTensor(p.expand(3, *p.shape), True) for k, p in params.items()}
    xs, ys, xq, yq = (TaskTensor(t, True) for t in (xs, ys, xq, yq))
    loss = adapted_loss(net, batched, (xs, ys), (xq, yq), steps).value
    torch.testing.assert_close(loss, torch.stack(losses))
    assert_same(torch.autograd.grad(loss.sum(), list(params.values())), expected)


@pytest.mark.parametrize("shape", ["tasks", "stride", "dilation"])
def test_weights_that_tasks_share_are_convolved_with_all_images_in_either_way(shape):
    x, weight, _, bias, geometry = make(SHAPES[shape])
    tasks = [x, x.flip(0) + 1]
    wanted = torch.stack([F.conv2d(t, weight, bias, *geometry) for t in tasks])
    images = TaskTensor(torch.stack(tasks))
    torch.testing.assert_close(F.conv2d(images, weight, bias, *geometry).value, wanted)
    torch.testing.assert_close(convolve_all(images, weight, bias, geometry).value, wanted)


def test_inner_steps_see_the_same_patches_of_the_support_set(monkeypatch):
    made = []

    class Counted(Patches):
        def __init__(self, x: Tensor, *args) -> None:
            made.append(len(x))
            super().__init__(x, *args)

    monkeypatch.setattr("metalit.batching.conv_block.Patches", Counted)
    params = {k: TaskTensor(p.expand(3, *p.shape), True) for k, p in network().named_parameters()}
    xs, xq = (TaskTensor(torch.rand(3, n, 1, 9, 8).double(), True) for n in (5, 7))
    ys, yq = (TaskTensor(torch.randint(3, (3, n)), True) for n in (5, 7))
    adapted_loss(network(), params, (xs, ys), (xq, yq), 4)
    assert made == [5, 7]


@pytest.mark.parametrize("limit", [0, 2**25])
def test_patches_that_are_kept_and_those_that_are_made_anew_are_the_same(monkeypatch, limit):
    monkeypatch.setattr("metalit.batching.patches.KEPT", limit)
    *inputs, geometry = make(SHAPES["tasks"])
    derived: dict = {}
    end = {"relu": True, "window": (2, 2), "images": 2}
    expected = derivatives(native, inputs, geometry, False, relu=True, window=(2, 2))
    for _ in range(2):
        found = derivatives(conv_block, inputs, geometry, False, **end, derived=derived)
        assert_same(found, expected)
    (patches,) = derived.values()
    assert bool(patches.kept) == bool(limit)


def test_what_is_derived_from_a_value_is_forgotten_when_the_value_changes():
    images, weight = torch.rand(2, 3, 1, 6, 6), TaskTensor(torch.rand(2, 9, 1, 3, 3))
    x = TaskTensor(images.clone())
    F.batch_norm(F.conv2d(x, weight), None, None, training=True)
    assert x.derived
    x += 1
    fresh = F.conv2d(TaskTensor(images + 1), weight)
    torch.testing.assert_close(F.conv2d(x, weight).value, fresh.value)


def test_nothing_is_derived_from_what_may_belong_to_another_graph_the_next_time():
    weight = TaskTensor(torch.rand(2, 9, 1, 3, 3))
    value = torch.rand(2, 3, 1, 6, 6, requires_grad=True)
    x = TaskTensor(value, True)
    with torch.no_grad():
        F.conv2d(x, weight).value.sum()
    (found,) = torch.autograd.grad(F.conv2d(x, weight).value.sum(), value)
    assert float(found.abs().sum()) > 0
