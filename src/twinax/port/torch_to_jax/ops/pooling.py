"""Pooling over windows of the last one, two or three dimensions; images are (…, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


def windows(
    x: Array, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool,
) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:  # fmt: skip
    """Window, strides and padding for all dimensions of x."""
    n, lead = len(kernel_size), x.ndim - len(kernel_size)
    stride = tuple(np.broadcast_to(stride or kernel_size, n).tolist())
    pads = [(p, p) for p in np.broadcast_to(padding, n).tolist()]
    if ceil_mode:  # a last window may reach beyond the end, if it begins before it (or in the left padding)
        for axis, (size, k, s, d) in enumerate(
            zip(x.shape[lead:], kernel_size, stride, np.broadcast_to(dilation, n).tolist(), strict=True)
        ):
            p, reach = pads[axis][0], d * (k - 1) + 1
            last = -((reach - size - 2 * p) // s) * s
            last = last - s if last >= size + p else last
            pads[axis] = (p, max(last + reach - size - p, 0))
    return (1,) * lead + tuple(kernel_size), (1,) * lead + stride, [(0, 0)] * lead + pads


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default", whole=True)
def max_pool(
    x: Array,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Array:
    """The largest value in each window; among equal ones the first takes the gradient."""
    size, strides, pads = windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    if set(dilation) == {1}:
        return lax.reduce_window(x, lowest, lax.max, size, strides, pads)
    return dilated_max(jnp.pad(x, pads, constant_values=lowest), size, strides, dilation)


def dilated_max(x: Array, size: tuple[int, ...], strides: tuple[int, ...], dilation: Sequence[int]) -> Array:
    """The largest value in each window of a padded array, one dimension after the other."""
    for axis in range(x.ndim - 1, x.ndim - len(dilation) - 1, -1):
        k, s, d = size[axis], strides[axis], dilation[axis - x.ndim]
        reach = (x.shape[axis] - d * (k - 1) - 1) // s * s + 1
        shifted = [lax.slice_in_dim(x, i * d, i * d + reach, s, axis) for i in range(k)]
        x = shifted[0]
        for other in shifted[1:]:
            x = jnp.where((other > x) | jnp.isnan(other), other, x)  # the first of equals stays
    return x


@aten("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default", whole=True)
def avg_pool(
    x: Array,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The mean of each window. Padding counts as zeros, or not at all; what lies beyond it never counts."""
    size, strides, pads = windows(x, kernel_size, stride, padding, (1,), ceil_mode)
    total = lax.reduce_window(x, x.dtype.type(0), lax.add, size, strides, pads)
    if divisor_override is not None:
        return total / divisor_override
    if not (ceil_mode or (any(padding) and not count_include_pad)):
        return total / math.prod(kernel_size)
    given = [(0, 0, 0)] * (x.ndim - len(kernel_size)) + [
        (p, p, 0) for p in np.broadcast_to(padding, len(kernel_size)).tolist()
    ]
    ones = lax.pad(jnp.ones_like(x), x.dtype.type(count_include_pad), given)
    beyond = [(a - p, b - p, 0) for (a, b), (p, _, _) in zip(pads, given, strict=True)]
    ones = lax.pad(ones, x.dtype.type(0), beyond)
    return total / lax.reduce_window(ones, x.dtype.type(0), lax.add, size, strides, "VALID")


@aten(
    "adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default",
    "_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default",
    whole=True,
)  # fmt: skip
def adaptive_avg_pool(x: Array, output_size: Sequence[int]) -> Array:
    """The mean of ``output_size`` parts of each dimension, that are as equal as can be and may overlap."""
    if set(output_size) == {1}:
        return x.mean(tuple(range(-len(output_size), 0)), keepdims=True)
    for axis, parts in enumerate(output_size, -len(output_size)):
        size = x.shape[axis]
        edges = [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
        means = [lax.slice_in_dim(x, a, b, axis=axis).mean(axis, keepdims=True) for a, b in edges]
        x = means[0] if parts == 1 else jnp.concatenate(means, axis)
    return x


@aten(
    "adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default",
    whole=True, results=(0,),
)  # fmt: skip
def adaptive_max_pool(x: Array, output_size: Sequence[int]) -> Array:
    """The largest value in ``output_size`` parts of each dimension; of equal ones the first takes part."""
    for axis in range(-1, -len(output_size) - 1, -1):
        size, parts, largest = x.shape[axis], output_size[axis], []
        for i in range(parts):
            part = lax.slice_in_dim(x, i * size // parts, -(-(i + 1) * size // parts), axis=axis)
            largest.append(jnp.take_along_axis(part, jnp.argmax(part, axis, keepdims=True), axis))
        x = largest[0] if parts == 1 else jnp.concatenate(largest, axis)
    return x
