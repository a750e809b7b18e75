"""Pooling over windows of the last one, two or three dimensions; images are (…, C, H, W)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


def each(value: Sequence[int], count: int) -> tuple[int, ...]:
    """One number for each of ``count`` dimensions."""
    return tuple(value) * count if len(value) == 1 else tuple(value)


def windows(
    x: Array, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:  # fmt: skip
    """Window, strides, dilation and padding for all dimensions of x.

    With ``ceil_mode`` a last window may reach beyond the end, if it begins before it (or in the left padding).
    """
    n = len(kernel_size)
    stride, padding, dilation = each(stride or kernel_size, n), each(padding, n), each(dilation, n)
    ends = []
    for size, k, s, p, d in zip(x.shape[-n:], kernel_size, stride, padding, dilation, strict=True):
        room = size + 2 * p - d * (k - 1) - 1
        count = (math.ceil(room / s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= size + p:
            count -= 1
        ends.append((p, max((count - 1) * s + d * (k - 1) + 1 - size - p, 0)))
    lead = x.ndim - n
    ones = (1,) * lead
    return ones + tuple(kernel_size), ones + stride, ones + dilation, [(0, 0)] * lead + ends


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
    size, strides, dilations, pads = windows(x, kernel_size, stride, padding, dilation, ceil_mode)
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    if dilation in ((1,), (1, 1), (1, 1, 1)):
        return lax.reduce_window(x, lowest, lax.max, size, strides, pads)
    else:
        return dilated_max(jnp.pad(x, pads, constant_values=lowest), size, strides, dilations)


def dilated_max(x: Array, size: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]) -> Array:
    """The largest value in each window of a padded array, one dimension after the other."""
    for axis in reversed(range(x.ndim)):
        k, s, d = size[axis], strides[axis], dilations[axis]
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
    size, strides, _, pads = windows(x, kernel_size, stride, padding, (1,), ceil_mode)
    total = lax.reduce_window(x, x.dtype.type(0), lax.add, size, strides, pads)
    if divisor_override is not None:
        return total / divisor_override
    inner = [(0, 0)] * (x.ndim - len(kernel_size)) + [(p, p) for p in each(padding, len(kernel_size))]
    counted = np.ones(x.shape[-len(kernel_size) :]).reshape(
        (1,) * (x.ndim - len(kernel_size)) + x.shape[-len(kernel_size) :]
    )
    if count_include_pad:
        counted = np.pad(counted, inner, constant_values=1)
        pads = [(a - c, b - d) for (a, b), (c, d) in zip(pads, inner, strict=True)]
        counted = counted[
            tuple(
                slice(None, s - max(-b, 0) if b < 0 else None)
                for s, (_, b) in zip(counted.shape, pads, strict=True)
            )
        ]
        pads = [(a, max(b, 0)) for a, b in pads]
    count = lax.reduce_window(jnp.asarray(counted, x.dtype), x.dtype.type(0), lax.add, size, strides, pads)
    return total / count


@aten(
    "adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default",
    "_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default",
    whole=True,
)  # fmt: skip
def adaptive_avg_pool(x: Array, output_size: Sequence[int]) -> Array:
    """The mean of ``output_size`` parts of each dimension, that are as equal as can be and may overlap."""
    for axis, parts in enumerate(output_size, -len(output_size)):
        size = x.shape[axis]
        edges = [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
        means = [lax.slice_in_dim(x, a, b, axis=axis).mean(axis, keepdims=True) for a, b in edges]
        x = means[0] if parts == 1 else jnp.concatenate(means, axis)
    return x
