"""Operations on each element."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("add.Tensor", "add.Scalar", promote=True)
def add(x: Array, y: Array, alpha: float = 1) -> Array:
    return x + y if alpha == 1 else x + alpha * y


@aten("relu.default")
def relu(x: Array) -> Array:
    return jax.nn.relu(x)


@aten("abs.default", whole=True)
def absolute(x: Array) -> Array:
    """|x|, with torch's gradient at 0, which is 0."""
    return x * lax.stop_gradient(jnp.sign(x))


@aten("gelu.default")
def gelu(x: Array, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=False) if approximate == "none" else jax.nn.gelu(x, approximate=True)
