"""Operations on the borders, windows and channels of images."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten

# Channels, pixels, windows.


@aten("pixel_shuffle.default", whole=True)
def pixel_shuffle(x: Array, upscale_factor: int) -> Array:
    """Channels to pixels: (…, C·r², H, W) to (…, C, H·r, W·r)."""
    r = upscale_factor
    *batch, c, h, w = x.shape
    x = x.reshape(*batch, c // r**2, r, r, h, w)
    x = jnp.moveaxis(x, (-4, -3), (-3, -1))  # …, C, H, r, W, r
    return x.reshape(*batch, c // r**2, h * r, w * r)


@aten("pixel_unshuffle.default", whole=True)
def pixel_unshuffle(x: Array, downscale_factor: int) -> Array:
    """Pixels to channels: (…, C, H·r, W·r) to (…, C·r², H, W)."""
    r = downscale_factor
    *batch, c, h, w = x.shape
    x = x.reshape(*batch, c, h // r, r, w // r, r)
    x = jnp.moveaxis(x, (-3, -1), (-4, -3))  # …, C, r, r, H, W
    return x.reshape(*batch, c * r**2, h // r, w // r)


@aten("channel_shuffle.default", whole=True)
def channel_shuffle(x: Array, groups: int) -> Array:
    """Channels (N, g·C, …) ordered by their place in the group first."""
    n, c, *size = x.shape
    return x.reshape(n, groups, c // groups, *size).swapaxes(1, 2).reshape(x.shape)


def window_positions(n: int, size: int, step: int, dilation: int = 1) -> np.ndarray:
    """Which of n elements each window holds: (windows, size)."""
    starts = np.arange(0, n - dilation * (size - 1), step)
    return starts[:, None] + dilation * np.arange(size)


@aten("unfold.default", "unfold_copy.default", whole=True)
def unfold(x: Array, dimension: int, size: int, step: int) -> Array:
    """Windows of ``size`` along ``dimension``, which counts them then; a new last dimension holds each."""
    dimension = dimension % x.ndim
    windows = jnp.take(x, window_positions(x.shape[dimension], size, step), axis=dimension)
    return jnp.moveaxis(windows, dimension + 1, -1)


@aten("im2col.default", whole=True)
def im2col(
    x: Array,
    kernel_size: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: tuple[int, ...],
    stride: tuple[int, ...],
) -> Array:
    """Patches of images as columns: (…, C, H, W) to (…, C·kh·kw, patches)."""
    *batch, c, _, _ = x.shape
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p) for p in padding])
    rows = window_positions(x.shape[-2], kernel_size[0], stride[0], dilation[0]).T
    columns = window_positions(x.shape[-1], kernel_size[1], stride[1], dilation[1]).T
    patches = x[..., rows[:, None, :, None], columns[:, None, :]]  # …, C, kh, kw, rows, columns
    return patches.reshape(*batch, c * math.prod(kernel_size), rows.shape[1] * columns.shape[1])


@aten("col2im.default", whole=True)
def col2im(
    x: Array,
    output_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: tuple[int, ...],
    stride: tuple[int, ...],
) -> Array:
    """Images as sums of patches, which are columns: (…, C·kh·kw, patches) to (…, C, H, W)."""
    h, w = (n + 2 * p for n, p in zip(output_size, padding, strict=True))
    rows = window_positions(h, kernel_size[0], stride[0], dilation[0]).T
    columns = window_positions(w, kernel_size[1], stride[1], dilation[1]).T
    *batch, c, _ = x.shape
    c = c // math.prod(kernel_size)
    patches = x.reshape(*batch, c, *kernel_size, rows.shape[1], columns.shape[1])
    images = jnp.zeros((*batch, c, h, w), x.dtype)
    images = images.at[..., rows[:, None, :, None], columns[:, None, :]].add(patches)
    return images[..., padding[0] : h - padding[0], padding[1] : w - padding[1]]


# Borders.


@aten("constant_pad_nd.default", whole=True)
def constant_pad(x: Array, pad: tuple[int, ...], value: float = 0) -> Array:
    """x with a border; ``pad`` counts (before, after) from the last dimension on, and crops below 0."""
    widths = [(before, after, 0) for before, after in pad_widths(x, pad)]
    return lax.pad(x, jnp.asarray(value, x.dtype), widths)


@aten("pad.default", whole=True)
def pad_border(x: Array, pad: tuple[int, ...], mode: str = "constant", value: float | None = None) -> Array:
    """x with a border of ``value``, or made from its own numbers."""
    if mode == "constant":
        return constant_pad(x, pad, 0 if value is None else value)
    modes = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return jnp.pad(x, pad_widths(x, pad), modes[mode])


@aten("reflection_pad1d.default", "reflection_pad2d.default", "reflection_pad3d.default")
def reflection_pad(x: Array, padding: tuple[int, ...]) -> Array:
    return jnp.pad(x, pad_widths(x, padding), "reflect")


@aten("replication_pad1d.default", "replication_pad2d.default", "replication_pad3d.default")
def replication_pad(x: Array, padding: tuple[int, ...]) -> Array:
    return jnp.pad(x, pad_widths(x, padding), "edge")


def pad_widths(x: Array, pad: tuple[int, ...]) -> list[tuple[int, int]]:
    """torch's padding, whose first pair is the last dimension's, as NumPy's, a pair for each dimension."""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    return [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
