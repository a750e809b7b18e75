"""Weights that are computed from others."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from twinax.port.torch_to_jax.ops.base import aten


@aten("_weight_norm.default", whole=True)
def weight_norm(v: Array, g: Array, dim: int = 0) -> Array:
    """g · v / ‖v‖, the norm over all dimensions but ``dim``; over all where it is −1 (arXiv:1602.07868)."""
    axes = None if dim == -1 else tuple(axis for axis in range(v.ndim) if axis != dim)
    return v * (g / jnp.sqrt(jnp.square(v).sum(axes, keepdims=dim != -1)))
