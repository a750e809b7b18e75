"""Convolution in torch's layout: channels before the spatial axes, weights (out, in / groups, …).

XLA chooses its own layout inside a compiled function: on a CPU, transposing to channels last by hand gained
nothing, in the forward pass or in the gradient. Kernels of one element are products of matrices instead, which
need no transposed copy of their weights: ResNet-50 takes 0.8 times as long forward, its gradient 0.9 times.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("conv1d.default", "conv2d.default", "conv3d.default", whole=True)
@aten("conv1d.padding", "conv2d.padding", "conv3d.padding", whole=True)
def convolution(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Array:
    """Convolution of (N, C, …) or (C, …) with (O, C / groups, …), plus a bias for each of the O channels."""
    axes = weight.ndim - 2
    if set(weight.shape[2:]) == {1} and groups == 1 and not np.any(padding):  # a product of matrices
        x = input[(..., *(slice(None, None, s) for s in np.broadcast_to(stride, axes)))]
        y = jnp.moveaxis(jnp.moveaxis(x, -axes - 1, -1) @ weight.reshape(weight.shape[:2]).T, -1, -axes - 1)
        return y if bias is None else y + bias.reshape(-1, *[1] * axes)
    pads = (
        padding.upper()
        if isinstance(padding, str)
        else [(p, p) for p in np.broadcast_to(padding, axes).tolist()]
    )
    y = lax.conv_general_dilated(
        input if input.ndim == weight.ndim else input[None],
        weight,
        window_strides=tuple(np.broadcast_to(stride, axes)),
        padding=pads,
        rhs_dilation=tuple(np.broadcast_to(dilation, axes)),
        feature_group_count=groups,
    )
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * axes)
    return y if input.ndim == weight.ndim else y[0]


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input", whole=True)
def transposed_convolution(
    input: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Array:
    """Transpose of the convolution that has these arguments: of (N, C, …) or (C, …) with (C, O / groups, …).

    It is the convolution of the input, spread out by the stride, with the mirrored weights.
    """
    axes = weight.ndim - 2
    kernel, steps, pads, more, apart = (
        np.broadcast_to(sizes, axes) for sizes in (weight.shape[2:], stride, padding, output_padding, dilation)
    )
    reach = apart * (kernel - 1) - pads
    # (groups · I, O, …) to (groups · O, I, …)
    mirrored = jnp.flip(weight.reshape(groups, -1, *weight.shape[1:]), tuple(range(3, axes + 3)))
    mirrored = jnp.swapaxes(mirrored, 1, 2).reshape(-1, weight.shape[0] // groups, *kernel)
    y = lax.conv_general_dilated(
        input if input.ndim == weight.ndim else input[None],
        mirrored,
        window_strides=(1,) * axes,
        padding=[(int(low), int(high)) for low, high in zip(reach, reach + more, strict=True)],
        lhs_dilation=tuple(steps),
        rhs_dilation=tuple(apart),
        feature_group_count=groups,
    )
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * axes)
    return y if input.ndim == weight.ndim else y[0]


@aten("convolution.default")
def convolution_either_way(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    return (
        transposed_convolution(input, weight, bias, stride, padding, output_padding, groups, dilation)
        if transposed
        else convolution(input, weight, bias, stride, padding, dilation, groups)
    )
