"""Normalisation by statistics of a batch, a sample or a part of it.

Each takes the mean, then the mean square of the differences from it, in float32 where the input is of half
precision, as torch does. Batch norm has its channels last inside: XLA then keeps one layout through a network's
gradient, which takes 0.72 times as long for ResNet-50 on a CPU.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("_native_batch_norm_legit_no_training.default", whole=True, results=(0,))
def batch_norm_inference(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
) -> Array:
    """(x − running mean) / √(running variance + eps) · weight + bias, of each channel (dimension 1)."""
    x = jnp.moveaxis(input, 1, -1)  # channels last
    y = (x - running_mean) * lax.rsqrt(running_var + eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return jnp.moveaxis(y, -1, 1).astype(input.dtype)


@aten("_native_batch_norm_legit.no_stats", whole=True, results=(0,))
def batch_norm_without_running(
    input: Array, weight: Array | None, bias: Array | None, training: bool, momentum: float, eps: float
) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, of each channel (dimension 1), always of the batch."""
    x = jnp.moveaxis(input.astype(jnp.promote_types(input.dtype, jnp.float32)), 1, -1)  # channels last
    axes = tuple(range(x.ndim - 1))
    x = x - x.mean(axes)
    y = x * lax.rsqrt(jnp.square(x).mean(axes) + eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return jnp.moveaxis(y, -1, 1).astype(input.dtype)


@aten("_native_batch_norm_legit_functional.default", whole=True, results=(0, 3, 4))
def batch_norm_training(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """(x − mean) / √(variance + eps) · weight + bias, of each channel, and the new running statistics.

    The running variance takes the unbiased variance, the normalisation the biased one.
    """
    if not training:
        raise NotImplementedError(
            "aten._native_batch_norm_legit_functional in eval mode is not ported: export again"
        )
    x = jnp.moveaxis(input.astype(jnp.promote_types(input.dtype, jnp.float32)), 1, -1)  # channels last
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    x = x - mean
    var = jnp.square(x).mean(axes)
    y = x * lax.rsqrt(var + eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    count = input.size // input.shape[1]
    mean, var = lax.stop_gradient((mean, var * count / (count - 1)))
    running_mean = ((1 - momentum) * running_mean + momentum * mean).astype(running_mean.dtype)
    running_var = ((1 - momentum) * running_var + momentum * var).astype(running_var.dtype)
    return jnp.moveaxis(y, -1, 1).astype(input.dtype), running_mean, running_var


@aten("batch_norm.default", whole=True)
def batch_norm(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, of each channel: running ones, or those of the batch."""
    if not training and running_mean is not None and running_var is not None:
        return batch_norm_inference(input, weight, bias, running_mean, running_var, momentum, eps)
    if running_mean is not None:
        raise NotImplementedError("aten.batch_norm that updates running statistics is not ported: decompose it")
    return batch_norm_without_running(input, weight, bias, training, momentum, eps)


@aten("layer_norm.default", whole=True)
@aten("native_layer_norm.default", whole=True, results=(0,))
def layer_norm(
    input: Array,
    normalized_shape: list[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, over the last dimensions."""
    axes = tuple(range(-len(normalized_shape), 0))
    x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
    x = x - x.mean(axes, keepdims=True)
    y = x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return y.astype(input.dtype)


@aten("rms_norm.default", whole=True)
@aten("_fused_rms_norm.default", whole=True, results=(0,))
def rms_norm(
    input: Array, normalized_shape: list[int], weight: Array | None = None, eps: float | None = None
) -> Array:
    """X / √(mean of x² + eps) · weight, over the last dimensions."""
    axes = tuple(range(-len(normalized_shape), 0))
    x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
    if eps is None:
        eps = float(jnp.finfo(x.dtype).eps)
    y = x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + eps)
    return (y if weight is None else y * weight).astype(input.dtype)


@aten("group_norm.default", whole=True)
def group_norm(
    input: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, over each group of channels of a sample."""
    batch, channels, *spatial = input.shape
    channel = (-1, *[1] * len(spatial))  # (C, 1, …) beside (N, C, …)
    x = input.reshape(batch, num_groups, channels // num_groups, *spatial)
    x = x.astype(jnp.promote_types(input.dtype, jnp.float32))
    axes = tuple(range(2, x.ndim))
    x = x - x.mean(axes, keepdims=True)
    y = x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + eps)
    y = y.reshape(input.shape)
    if weight is not None:
        y = y * weight.reshape(channel)
    if bias is not None:
        y = y + bias.reshape(channel)
    return y.astype(input.dtype)


@aten("native_group_norm.default", results=(0,))
def native_group_norm(
    input: Array, weight: Array | None, bias: Array | None, N: int, C: int, HxW: int, group: int, eps: float
) -> Array:
    return group_norm(input, group, weight, bias, eps)


@aten("instance_norm.default", whole=True)
def instance_norm(
    input: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, of each channel of a sample, or running statistics."""
    if not use_input_stats:
        return batch_norm_inference(input, weight, bias, running_mean, running_var, momentum, eps)  # type: ignore[arg-type]
    if running_mean is not None:
        raise NotImplementedError(
            "aten.instance_norm that updates running statistics is not ported: set track_running_stats=False"
        )
    return group_norm(input, input.shape[1], weight, bias, eps)
