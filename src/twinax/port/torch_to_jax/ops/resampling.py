"""Images of another size, and images read off at given points.

Interpolation takes the axes one after the other: each is a product with a small matrix of weights, made in
NumPy when the model is traced.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from twinax.port.torch_to_jax.ops.base import aten


def multiply_along(x: Array, matrix: np.ndarray, axis: int) -> Array:
    """The matrix times x along one axis, in float32 or better."""
    wide = jnp.asarray(matrix, jnp.promote_types(x.dtype, jnp.float32))
    y = jnp.tensordot(x, wide, ([axis], [1]), precision="highest")
    return jnp.moveaxis(y, -1, axis).astype(x.dtype)


def new_sizes(
    x: Array, output_size: Sequence[int] | None, scale_factors: Sequence[float | None] | None
) -> list[tuple[int, int, int, float]]:
    """Of each spatial axis of (N, C, …): its number, old size, new size, and old pixels per new pixel."""
    old = x.shape[2:]
    factors = [None] * len(old) if scale_factors is None else scale_factors
    if output_size is None:
        output_size = [int(size * (factor or 1)) for size, factor in zip(old, factors, strict=True)]
    return [
        (axis, size, new, 1 / factor if factor else size / new)
        for axis, size, new, factor in zip(range(2, x.ndim), old, output_size, factors, strict=True)
    ]


# --- nearest ------------------------------------------------------------------------------------------------


@aten("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec", whole=True)
def upsample_nearest(
    input: Array,
    output_size: Sequence[int] | None = None,
    scale_factors: Sequence[float | None] | None = None,
    center: float = 0.0,
) -> Array:
    """The pixel at ⌊(i + center) · old size / new size⌋ for each spatial axis of (N, C, …)."""
    precision = np.float64 if input.dtype == jnp.float64 else np.float32  # torch rounds like this
    for axis, size, new, scale in new_sizes(input, output_size, scale_factors):
        whole = scale * new == size and new % size == 0
        if not whole and center == 0 and new in (size, 2 * size):  # torch's gradient takes other pixels
            raise NotImplementedError("aten.upsample_nearest by such a factor is not ported: give the new size")
        if whole:
            input = jnp.repeat(input, new // size, axis)
        else:
            nearest = (np.arange(new) + center) * float(precision(scale)) - center
            nearest = nearest.astype(np.float32) + np.float32(center)
            input = jnp.take(input, np.minimum(nearest.astype(int), size - 1), axis)
    return input


@aten("_upsample_nearest_exact1d.vec", "_upsample_nearest_exact2d.vec", "_upsample_nearest_exact3d.vec")
def upsample_nearest_exact(
    input: Array, output_size: Sequence[int] | None, scale_factors: Sequence[float | None] | None
) -> Array:
    return upsample_nearest(input, output_size, scale_factors, center=0.5)


@aten("upsample_nearest1d.default")
def upsample_nearest1d(x: Array, output_size: Sequence[int], scales: float | None = None) -> Array:
    return upsample_nearest(x, output_size, [scales])


@aten("upsample_nearest2d.default")
def upsample_nearest2d(
    x: Array, output_size: Sequence[int], scales_h: float | None = None, scales_w: float | None = None
) -> Array:
    return upsample_nearest(x, output_size, [scales_h, scales_w])


@aten("upsample_nearest3d.default")
def upsample_nearest3d(
    x: Array,
    output_size: Sequence[int],
    scales_d: float | None = None,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    return upsample_nearest(x, output_size, [scales_d, scales_h, scales_w])


@aten("_upsample_nearest_exact2d.default")
def upsample_nearest_exact2d(
    x: Array, output_size: Sequence[int], scales_h: float | None = None, scales_w: float | None = None
) -> Array:
    return upsample_nearest(x, output_size, [scales_h, scales_w], center=0.5)


# --- linear and cubic ---------------------------------------------------------------------------------------


def pixel_positions(size: int, new: int, scale: float, align_corners: bool) -> np.ndarray:
    """Where the new pixels lie among the old ones: corners on corners, or edges on edges."""
    if align_corners:
        return np.arange(new) * ((size - 1) / (new - 1) if new > 1 else 0.0)
    return (np.arange(new) + 0.5) * scale - 0.5


def linear_weights(distance: np.ndarray) -> np.ndarray:
    """1 - |distance|, within 1."""
    return np.maximum(1 - np.abs(distance), 0)


def cubic_weights(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution, within 2; a is the slope at 1."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


@aten("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec", whole=True)
def upsample_linear(
    input: Array,
    output_size: Sequence[int] | None,
    align_corners: bool,
    scale_factors: Sequence[float | None] | None = None,
) -> Array:
    """Linear interpolation along each spatial axis of (N, C, …)."""
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise NotImplementedError("aten.upsample_linear with integers is not ported: convert to floats")
    for axis, size, new, scale in new_sizes(input, output_size, scale_factors):
        if new == size:
            continue
        position = pixel_positions(size, new, scale, align_corners).clip(0, size - 1)
        input = multiply_along(input, linear_weights(position[:, None] - np.arange(size)), axis)
    return input


@aten("upsample_bicubic2d.vec", whole=True)
def upsample_bicubic(
    input: Array,
    output_size: Sequence[int] | None,
    align_corners: bool,
    scale_factors: Sequence[float | None] | None = None,
) -> Array:
    """Cubic interpolation along each spatial axis of (N, C, …), over edges that go on as they end."""
    if not jnp.issubdtype(input.dtype, jnp.floating):
        raise NotImplementedError("aten.upsample_bicubic2d with integers is not ported: convert to floats")
    for axis, size, new, scale in new_sizes(input, output_size, scale_factors):
        position = pixel_positions(size, new, scale, align_corners)
        near = np.floor(position)[:, None].astype(int) + np.arange(-1, 3)  # (new, 4)
        matrix = np.zeros((new, size))
        rows = np.arange(new)[:, None]
        np.add.at(matrix, (rows, near.clip(0, size - 1)), cubic_weights(position[:, None] - near, a=-0.75))
        input = multiply_along(input, matrix, axis)
    return input


def resize_antialiased(
    x: Array,
    output_size: Sequence[int] | None,
    align_corners: bool,
    scale_factors: Sequence[float | None] | None,
    cubic: bool,
) -> Array:
    """Weighted means: where the image shrinks, the weights of interpolation are spread over more pixels."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise NotImplementedError("aten._upsample_*_aa with integers is not ported: convert to floats")
    for axis, size, new, scale in new_sizes(x, output_size, scale_factors):
        if new == size:
            continue
        if align_corners:
            scale = (size - 1) / (new - 1) if new > 1 else 0.0
        center = (np.arange(new) + 0.5) * scale
        spread = max(scale, 1.0)
        reach = (2 if cubic else 1) * spread
        distance = (np.arange(size) + 0.5 - center[:, None]) / spread  # (new, size)
        weights = cubic_weights(distance, a=-0.5) if cubic else linear_weights(distance)
        # torch takes the pixels within reach, rounded
        first = np.trunc(center - reach + 0.5)[:, None]
        last = np.trunc(center + reach + 0.5)[:, None]
        weights = np.where((np.arange(size) >= first) & (np.arange(size) < last), weights, 0)
        x = multiply_along(x, weights / weights.sum(1, keepdims=True), axis)
    return x


@aten("_upsample_bilinear2d_aa.vec")
def upsample_bilinear_antialiased(
    input: Array,
    output_size: Sequence[int] | None,
    align_corners: bool,
    scale_factors: Sequence[float | None] | None,
) -> Array:
    return resize_antialiased(input, output_size, align_corners, scale_factors, cubic=False)


@aten("_upsample_bicubic2d_aa.vec")
def upsample_bicubic_antialiased(
    input: Array,
    output_size: Sequence[int] | None,
    align_corners: bool,
    scale_factors: Sequence[float | None] | None,
) -> Array:
    return resize_antialiased(input, output_size, align_corners, scale_factors, cubic=True)


@aten("upsample_linear1d.default")
def upsample_linear1d(
    x: Array, output_size: Sequence[int], align_corners: bool, scales: float | None = None
) -> Array:
    return upsample_linear(x, output_size, align_corners, [scales])


@aten("upsample_bilinear2d.default")
def upsample_bilinear2d(
    x: Array,
    output_size: Sequence[int],
    align_corners: bool,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    return upsample_linear(x, output_size, align_corners, [scales_h, scales_w])


@aten("upsample_trilinear3d.default")
def upsample_trilinear3d(
    x: Array,
    output_size: Sequence[int],
    align_corners: bool,
    scales_d: float | None = None,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    return upsample_linear(x, output_size, align_corners, [scales_d, scales_h, scales_w])


@aten("upsample_bicubic2d.default")
def upsample_bicubic2d(
    x: Array,
    output_size: Sequence[int],
    align_corners: bool,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    return upsample_bicubic(x, output_size, align_corners, [scales_h, scales_w])


@aten("_upsample_bilinear2d_aa.default")
def upsample_bilinear2d_antialiased(
    x: Array,
    output_size: Sequence[int],
    align_corners: bool,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    return resize_antialiased(x, output_size, align_corners, [scales_h, scales_w], cubic=False)


@aten("_upsample_bicubic2d_aa.default")
def upsample_bicubic2d_antialiased(
    x: Array,
    output_size: Sequence[int],
    align_corners: bool,
    scales_h: float | None = None,
    scales_w: float | None = None,
) -> Array:
    return resize_antialiased(x, output_size, align_corners, [scales_h, scales_w], cubic=True)


# --- at given points ----------------------------------------------------------------------------------------


@aten("affine_grid_generator.default", whole=True)
def affine_grid(theta: Array, size: Sequence[int], align_corners: bool) -> Array:
    """Coordinates (x, y) or (x, y, z) of every pixel of images (N, C, …), mapped by theta (N, d, d + 1).

    Within -1 and 1: the centers of the corner pixels with align_corners, else the edges of the image.
    """
    axes = [
        np.linspace(-1, 1, n) if align_corners and n > 1 else (np.arange(n) * 2 + 1) / n - 1 for n in size[2:]
    ]
    mesh = np.meshgrid(*axes, indexing="ij")[::-1]  # x is along the last axis
    points = np.stack([*mesh, np.ones(size[2:])], -1)  # (…, d + 1)
    return jnp.einsum("...j,nij->n...i", jnp.asarray(points, theta.dtype), theta, precision="highest")


def inside(position: Array, size: int, padding_mode: int, align_corners: bool) -> Array:
    """Positions on an axis, kept within it: 1 clamps them (without gradient), 2 reflects them before."""
    if padding_mode == 2:
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        away = jnp.abs(position - low)
        fold = jnp.mod(away, 2 * span) if span else jnp.zeros_like(away)
        position = low + jnp.where(fold > span, 2 * span - fold, fold)
    if padding_mode:
        within = (position > 0) & (position < size - 1)
        position = jnp.where(within, position, jnp.clip(jax.lax.stop_gradient(position), 0, size - 1))
    return position


@aten("grid_sampler.default", "grid_sampler_2d.default", "grid_sampler_3d.default", whole=True)
def grid_sample(
    input: Array, grid: Array, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Array:
    """Images (N, C, …) at the points grid (N, …, d), whose coordinates (x, y, …) are -1 and 1 at the edges.

    interpolation_mode 0 is linear, 1 nearest; padding_mode 0 has zeros outside, 1 the edge, 2 the mirror image.
    """
    if interpolation_mode not in (0, 1):
        raise NotImplementedError("aten.grid_sampler with bicubic is not ported: use bilinear")
    sizes = input.shape[2:]
    read = jax.vmap(lambda image, index: image[:, *index])  # (C, …), (d, …) -> (C, …)
    positions = []
    for axis, size in enumerate(sizes):
        unit = (grid[..., len(sizes) - 1 - axis] + 1) / 2
        position = unit * (size - 1) if align_corners else unit * size - 0.5
        positions.append(inside(position, size, padding_mode, align_corners))
    if interpolation_mode == 1:
        positions = [jnp.round(position) for position in positions]
    total = jnp.zeros((), input.dtype)
    for corner in np.ndindex(*[2 if interpolation_mode == 0 else 1] * len(sizes)):
        weight, index = jnp.ones((), input.dtype), []
        for position, step, size in zip(positions, corner, sizes, strict=True):
            low = jnp.floor(position)
            near, share = low + step, position - low if step else 1 - (position - low)
            weight = weight * jnp.where((near >= 0) & (near < size), share, 0)
            index.append(near.clip(0, size - 1).astype(int))
        total = total + weight[:, None] * read(input, index)
    return total
