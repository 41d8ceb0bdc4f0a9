"""Convolutions of images with few channels, as products of weights with patches."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .convolution import Geometry
from .pooling import (
    Pooling,
    gather,
    mean_and_var,
    merged,
    output_size,
    pool,
    scatter,
    slices_of,
)

KEPT = 2**25
"""Bytes of patches that are kept for the next pass; if there are more, they are made anew."""

_threshold_backward = torch.ops.aten.threshold_backward.grad_input


class Moments(Function):
    """Mean and variance of the products of weights with patches, whose values are given.

    They are polynomials of the weights w: `w · mean(P)` and `w · cov(P) w`.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, mean: Tensor, var: Tensor, gram: Tensor) -> Any:
        """Return the values."""
        ctx.save_for_backward(w, gram)
        return mean, var

    @staticmethod
    def backward(ctx: Any, g_mean: Tensor, g_var: Tensor) -> Any:
        """Return the gradients of the inputs."""
        w, gram = ctx.saved_tensors
        means = gram[:, :-1, -1:]
        covariance = gram[:, :-1, :-1] - means * means.transpose(1, 2)
        gw = means * by_group_of(g_mean, w) + (covariance @ w) * by_group_of(2 * g_var, w)
        return gw, None, None, None


class PatchProduct(Function):
    """The products of folded weights with patches, as far as the max-pool and the ReLU keep them.

    The folded weights have shape `(groups, patch + 1, channels)`; the last row are biases. Which
    products are kept is given, and so are they: this is for the derivative.
    """

    @staticmethod
    def forward(
        ctx: Any, folded: Tensor, y: Tensor, chosen: Tensor | None, relu: bool, patches: "Patches"
    ) -> Tensor:
        """Return the values."""
        ctx.save_for_backward(y if relu else None, chosen)
        ctx.patches = patches
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        """Return the gradients of the inputs."""
        y, chosen = ctx.saved_tensors
        return _patch_sum(g, y, chosen, ctx.patches), None, None, None, None


class PatchSum(Function):
    """The transpose of `PatchProduct`: sums of patches, with a factor for each product."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, y: Tensor | None, chosen: Tensor | None, patches: "Patches"
    ) -> Tensor:
        """Return the values."""
        ctx.save_for_backward(y, chosen)
        ctx.patches = patches
        return patches.sums(g, y, chosen)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> Any:
        """Return the gradients of the inputs."""
        return ctx.patches.products(v, *ctx.saved_tensors), None, None, None


_patch_sum: Callable[..., Tensor] = PatchSum.apply


class Patches:
    """The patches of images under the kernel of a convolution, for one slice after another.

    Iterating gives a group of channels, the images of a slice and their patches, shape
    `(patch + 1, pixels)`, which the next slice may overwrite. The last element of a patch is 1.

    Args:
        x: Images, shape `(N, C, H, W)`.
        kernel: Height and width of the kernel, in pixels.
        geometry: Of the convolution.
        pooling: How many images are a slice, and the max-pool.
    """

    def __init__(
        self, x: Tensor, kernel: Sequence[int], geometry: Geometry, pooling: Pooling
    ) -> None:
        self.kernel, self.pooling = kernel, pooling
        stride, (ph, pw), dilation, self.groups = geometry
        n, channels, height, width = x.shape
        # numbers are the more accurate the smaller the mean is, and the norm forgets a constant
        offset = x[: pooling.images].mean((0, 2, 3))[:, None, None]
        self.planes = (-offset).repeat(n, 1, height + 2 * ph, width + 2 * pw)
        torch.sub(x, offset, out=self.planes[:, :, ph : ph + height, pw : pw + width])
        self.size = output_size(x, kernel, geometry)
        image, plane, row, pixel = self.planes.stride()
        self.windows = self.planes.as_strided(
            (self.groups, channels // self.groups, *kernel, n, *self.size),
            (channels // self.groups * plane, plane, row * dilation[0], pixel * dilation[1],
             image, row * stride[0], pixel * stride[1]),
        )  # fmt: skip
        self.patch = self.windows.shape[1:4].numel()
        size = self.windows.numel() * x.element_size()
        self.kept: dict[tuple[int, int], Tensor] | None = {} if size <= KEPT else None
        self.gram: Tensor | None = None

    def __iter__(self) -> Iterator[tuple[int, slice, Tensor]]:
        n = self.windows.shape[4]
        p = None
        for group in range(self.groups):
            for rows in slices_of(n, self.pooling.images):
                part, place = self.windows[group, :, :, :, rows], (group, rows.start)
                if self.kept is None:
                    p = _filled(part, p)
                elif place in self.kept:
                    p = self.kept[place]
                else:
                    p = self.kept[place] = _filled(part)
                yield group, rows, p

    def measure(self, w: Tensor, alive: Tensor | None) -> tuple[Any, ...]:
        """Return what a pool keeps of the products with w, and what its derivatives need.

        Returns:
            Pixels that are kept and where they were, shape `(groups, N, channels, height, width)`;
            mean products of the elements of a patch, shape `(groups, patch + 1, patch + 1)`; mean
            and variance of all pixels of each channel.
        """
        channels, window = w.shape[2], self.pooling.window
        n = len(self.planes)
        kept = self.memory(n * self.groups, channels, pooled=True)
        kept = kept.view(self.groups, n, *kept.shape[1:])
        chosen = None if window is None else torch.empty_like(kept, dtype=torch.int64)
        gram = None
        if self.gram is None:
            gram = w.new_zeros(self.groups, self.patch + 1, self.patch + 1)
        stats, y = [], None
        for group, rows, p in self:
            y = kept[group, rows] if chosen is None else self.outputs(y, kept[group, rows])
            torch.mm(p[:-1].t(), w[group], out=pixels_of(y))
            if chosen is not None:
                mask = None if alive is None else alive.chunk(self.groups)[group]
                pool(y, kept[group], chosen[group], rows, window, mask)
            stats.append(mean_and_var(y))
            if gram is not None:
                gram[group].addmm_(p, p.t())
        if gram is not None:
            self.gram = gram / gram[0, -1, -1]
        return kept, chosen, self.gram, *merged(stats, self.slices(n), self.groups)

    def normed(self, kept: Tensor, scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
        """Return the pixels that are kept after an affine map, as channels-last images."""
        groups, n, channels = kept.shape[:3]
        result = self.memory(n, groups * channels, pooled=True)
        scale, shift = (t.view(groups, 1, channels, 1, 1) for t in (scale, shift))
        out = result.view(n, groups, channels, *result.shape[2:]).movedim(1, 0)
        torch.addcmul(shift, kept, scale, out=out)
        return result.relu_() if relu else result

    def sums(self, g: Tensor, y: Tensor | None, chosen: Tensor | None) -> Tensor:
        """Return sums of patches times g, shape `(groups, patch + 1, channels)`, where y > 0."""
        channels = g.shape[1] // self.groups
        totals = g.new_zeros(self.groups, self.patch + 1, channels)
        masked = spread = None
        for group, rows, p in self:
            part = of_group(g, self.groups, group)[rows]
            masked = like(masked, part)
            if y is None:
                masked.copy_(part)
            else:
                above = of_group(y, self.groups, group)[rows]
                _threshold_backward(part, above, 0, grad_input=masked)
            spread = masked if chosen is None else self.outputs(spread, part)
            if chosen is not None:
                scatter(masked, chosen[group], rows, self.pooling.window, spread)
            totals[group].addmm_(p, pixels_of(spread))
        return totals

    def products(self, v: Tensor, y: Tensor | None, chosen: Tensor | None) -> Tensor:
        """Return the kept ones of the products of patches with v, and 0 where not y > 0."""
        result = self.memory(len(self.planes), v.shape[0] * v.shape[2], pooled=True)
        u = picked = None
        for group, rows, p in self:
            out = of_group(result, self.groups, group)[rows]
            u = self.outputs(u, out)
            torch.mm(p.t(), v[group], out=pixels_of(u))
            picked = u if chosen is None else like(picked, out)
            if chosen is not None:
                gather(u, chosen[group, rows], picked)
            if y is None:
                out.copy_(picked)
            else:
                above = of_group(y, self.groups, group)[rows]
                _threshold_backward(picked, above, 0, grad_input=out)
        return result

    def memory(self, n: int, channels: int, pooled: bool) -> Tensor:
        """Return memory for channels-last images, of the size before or after the pool."""
        window = (self.pooling.window if pooled else None) or (1, 1)
        height, width = self.size[0] // window[0], self.size[1] // window[1]
        return self.planes.new_empty(n, height, width, channels).permute(0, 3, 1, 2)

    def outputs(self, old: Tensor | None, pooled: Tensor) -> Tensor:
        """Return memory for what is pooled to a slice, if possible that of another slice."""
        n, channels = pooled.shape[:2]
        return old if old is not None and len(old) == n else self.memory(n, channels, False)

    def slices(self, n: int) -> list[int]:
        """Return the numbers of images of the slices."""
        return [min(n, rows.stop) - rows.start for rows in slices_of(n, self.pooling.images)]


def _filled(windows: Tensor, memory: Tensor | None = None) -> Tensor:
    """Return patches, with a 1 at the end of each, in the memory of others if it fits."""
    patch, pixels = windows.shape[:3].numel(), windows.shape[3:].numel()
    if memory is None or memory.shape[1] != pixels:
        memory = windows.new_ones(patch + 1, pixels)
    memory[:-1].view(windows.shape).copy_(windows)
    return memory


def pixels_of(y: Tensor) -> Tensor:
    """Return channels-last images as `(pixels, channels)`."""
    return y.permute(0, 2, 3, 1).view(-1, y.shape[1])


def of_group(y: Tensor, groups: int, group: int) -> Tensor:
    """Return the channels of images that belong to a group."""
    return y.chunk(groups, 1)[group]


def like(old: Tensor | None, images: Tensor) -> Tensor:
    """Return channels-last memory of the shape of some images, if possible the old one."""
    if old is not None and old.shape == images.shape:
        return old
    return torch.empty_like(images, memory_format=torch.channels_last)


def by_group_of(channels: Tensor, w: Tensor) -> Tensor:
    """Return a value for each channel in the shape of weights `(groups, patch, channels)`."""
    return channels.view(w.shape[0], 1, w.shape[2])
