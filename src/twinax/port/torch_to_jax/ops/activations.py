"""Activation functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("relu.default")
def relu(x: Array) -> Array:
    return jax.nn.relu(x)


@aten("gelu.default")
def gelu(x: Array, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=False) if approximate == "none" else jax.nn.gelu(x, approximate=True)


@aten("silu.default")
def silu(x: Array) -> Array:
    return jax.nn.silu(x)


@aten("mish.default")
def mish(x: Array) -> Array:
    return jax.nn.mish(x)


@aten("softplus.default", whole=True)
def softplus(x: Array, beta: float = 1, threshold: float = 20) -> Array:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold."""
    return jnp.where(beta * x > threshold, x, jax.nn.softplus(beta * x) / beta)


@aten("log_sigmoid.default")
def log_sigmoid(x: Array) -> Array:
    return jax.nn.log_sigmoid(x)


@aten("log_sigmoid_forward.default", results=(0,))
def log_sigmoid_forward(x: Array) -> Array:
    return jax.nn.log_sigmoid(x)


@aten("hardtanh.default", whole=True)
def hardtanh(x: Array, min_val: float = -1, max_val: float = 1) -> Array:
    """x kept within two bounds, with torch's gradient on the bounds, which is 0 (jnp.clip: 1/2)."""
    inside = (x > min_val) & (x < max_val)
    return jnp.where(inside, x, lax.stop_gradient(jnp.clip(x, min_val, max_val)))


@aten("relu6.default")
def relu6(x: Array) -> Array:
    return jax.nn.relu6(x)


@aten("hardsigmoid.default")
def hardsigmoid(x: Array) -> Array:
    return jax.nn.hard_sigmoid(x)


@aten("hardswish.default")
def hardswish(x: Array) -> Array:
    return jax.nn.hard_swish(x)


@aten("elu.default")
def elu(x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    return jax.nn.elu(x, alpha) if scale == 1 and input_scale == 1 else scaled_elu(x, alpha, scale, input_scale)


def scaled_elu(x: Array, alpha: float, scale: float, input_scale: float) -> Array:
    """scale · x above 0, scale · alpha · (exp(input_scale · x) - 1) below."""
    below = jnp.where(x > 0, 0, x)  # keeps exp from overflowing where it is not used
    return scale * jnp.where(x > 0, x, alpha * jnp.expm1(input_scale * below))


@aten("selu.default")
def selu(x: Array) -> Array:
    return jax.nn.selu(x)


@aten("celu.default")
def celu(x: Array, alpha: float = 1) -> Array:
    return jax.nn.celu(x, alpha)


@aten("leaky_relu.default")
def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    return jnp.where(x > 0, x, negative_slope * x)


@aten("rrelu.default")
def rrelu(x: Array, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Array:
    if training:
        raise NotImplementedError("aten.rrelu with training=True is not ported: use a fixed slope (leaky_relu)")
    return jnp.where(x > 0, x, (lower + upper) / 2 * x)


@aten("_prelu_kernel.default")
def prelu_kernel(x: Array, weight: Array) -> Array:
    return jnp.where(x > 0, x, weight * x)


@aten("prelu.default", whole=True)
def prelu(x: Array, weight: Array) -> Array:
    """x above 0, weight · x below, with one weight in all or one for each channel (axis 1)."""
    if x.ndim > 1:
        weight = weight.reshape(-1, *(1,) * (x.ndim - 2))
    return jnp.where(x > 0, x, weight.reshape(weight.shape[: x.ndim]) * x)


@aten("softshrink.default", whole=True)
def softshrink(x: Array, lambd: float = 0.5) -> Array:
    """x moved toward 0 by lambd, and 0 where it is nearer than that."""
    return jnp.where(jnp.abs(x) <= lambd, 0, x - lambd * jnp.sign(x))


@aten("hardshrink.default")
def hardshrink(x: Array, lambd: float = 0.5) -> Array:
    return jnp.where(jnp.abs(x) <= lambd, 0, x)


@aten("threshold.default")
def threshold_below(x: Array, threshold: float, value: float) -> Array:
    return jnp.where(x <= threshold, value, x)


@aten("glu.default")
def glu(x: Array, dim: int = -1) -> Array:
    return jax.nn.glu(x, dim)
