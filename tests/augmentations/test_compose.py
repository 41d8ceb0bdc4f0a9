import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from metalit.augmentations import Compose, Flip, FromModule, Noise, Shift


class GlobalNoise(nn.Module):
    """Draws from torch's global generator, as kornia does."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(x.shape)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in range(count)]


def images() -> Tensor:
    return torch.rand(2, 3, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def test_compose_equals_applying_one_after_the_other() -> None:
    drawn = generators(2)
    expected = Noise(0.1)(Shift(1)(images(), drawn), drawn)
    assert torch.equal(Compose([Shift(1), Noise(0.1)])(images(), generators(2)), expected)


def test_compose_of_nothing_is_the_identity() -> None:
    assert torch.equal(Compose([])(images(), generators(2)), images())


def test_from_module_equals_seeding_the_global_generator_by_hand() -> None:
    augmented = FromModule(GlobalNoise())(images(), generators(2))
    for b, generator in enumerate(generators(2)):
        seed = int(torch.randint(2**62, (), generator=generator))
        expected = images()[b] + torch.rand(3, 1, 6, 6, generator=generator.manual_seed(seed))
        assert torch.equal(augmented[b], expected)


def test_from_module_leaves_the_global_generator_as_it_was() -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(77)
        before = torch.get_rng_state()
        FromModule(GlobalNoise())(images(), generators(2))
        assert torch.equal(torch.get_rng_state(), before)


def test_from_module_does_not_depend_on_the_global_generator() -> None:
    first = FromModule(GlobalNoise())(images(), generators(2))
    with torch.random.fork_rng([]):
        torch.manual_seed(123)
        assert torch.equal(FromModule(GlobalNoise())(images(), generators(2)), first)


def test_from_module_draws_anew_at_each_place_of_a_sequence() -> None:
    both = Compose([FromModule(GlobalNoise()), FromModule(GlobalNoise())])
    once = FromModule(GlobalNoise())(images(), generators(2)) - images()
    assert not torch.allclose(both(images(), generators(2)) - images(), 2 * once)


def test_from_module_refuses_a_module_that_changes_the_shape() -> None:
    with pytest.raises(ValueError, match=r"AvgPool2d returns shape \(3, 1, 3, 3\).*keeps"):
        FromModule(nn.AvgPool2d(2))(images(), generators(2))


KORNIA = """
import torch
from kornia.augmentation import RandomAffine
from metalit.augmentations import FromModule

def generators(count):
    return [torch.Generator().manual_seed(number) for number in range(count)]

x = torch.rand(2, 3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
augment = FromModule(RandomAffine(30.0, translate=(0.1, 0.1), p=1.0))
together = augment(x, generators(2))
assert not torch.allclose(together, x)
assert torch.equal(augment(x, generators(2)), together)
assert torch.equal(augment(x[1:], generators(2)[1:])[0], together[1])
"""


def test_kornia_modules_become_reproducible_and_independent_of_the_batch() -> None:
    if find_spec("kornia") is None:
        pytest.skip("kornia is not installed: pip install metalit[image]")
    # in a process of its own: kornia has a class MLP too, which would make the short names in
    # the configs of later tests ambiguous
    done = subprocess.run(
        [sys.executable, "-c", KORNIA], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_geometric_augmentations_name_the_shape_that_they_need() -> None:
    with pytest.raises(ValueError, match=r"Flip got inputs of shape \(2, 3, 7\) but needs images"):
        Flip()(torch.zeros(2, 3, 7), generators(2))
