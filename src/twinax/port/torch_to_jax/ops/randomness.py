"""Random arrays. The numbers are not torch's: what is the same is how they are distributed."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from twinax.port.torch_to_jax.ops.base import aten


@aten("rand.default")
def rand(size: Sequence[int], *, key: Array, dtype: jnp.dtype) -> Array:
    return jax.random.uniform(key, size, dtype)


@aten("randn.default")
def randn(size: Sequence[int], *, key: Array, dtype: jnp.dtype) -> Array:
    return jax.random.normal(key, size, dtype)


@aten("rand_like.default")
def rand_like(x: Array, *, key: Array, dtype: jnp.dtype | None = None) -> Array:
    return jax.random.uniform(key, x.shape, x.dtype if dtype is None else dtype)


@aten("randn_like.default")
def randn_like(x: Array, *, key: Array, dtype: jnp.dtype | None = None) -> Array:
    return jax.random.normal(key, x.shape, x.dtype if dtype is None else dtype)


@aten("randint.default")
def randint(high: int, size: Sequence[int], *, key: Array, dtype: jnp.dtype) -> Array:
    return jax.random.randint(key, size, 0, high).astype(dtype)


@aten("randint.low")
def randint_from(low: int, high: int, size: Sequence[int], *, key: Array, dtype: jnp.dtype) -> Array:
    return jax.random.randint(key, size, low, high).astype(dtype)


@aten("randint_like.default")
def randint_like(x: Array, high: int, *, key: Array, dtype: jnp.dtype | None = None) -> Array:
    return jax.random.randint(key, x.shape, 0, high).astype(x.dtype if dtype is None else dtype)


@aten("randint_like.low_dtype")
def randint_like_from(x: Array, low: int, high: int, *, key: Array, dtype: jnp.dtype | None = None) -> Array:
    return jax.random.randint(key, x.shape, low, high).astype(x.dtype if dtype is None else dtype)


@aten("randperm.default")
def randperm(n: int, *, key: Array, dtype: jnp.dtype) -> Array:
    return jax.random.permutation(key, n).astype(dtype)


@aten("bernoulli.default")
def bernoulli(x: Array, *, key: Array) -> Array:
    return jax.random.bernoulli(key, x).astype(x.dtype)


@aten("bernoulli.p", "bernoulli.Tensor")
def bernoulli_like(x: Array, p: float, *, key: Array) -> Array:
    return jax.random.bernoulli(key, p, x.shape).astype(x.dtype)


@aten("uniform.default")
def uniform(x: Array, low: float = 0, high: float = 1, *, key: Array) -> Array:
    return jax.random.uniform(key, x.shape, x.dtype, low, high)


@aten("normal_functional.default")
def normal_like(x: Array, mean: float = 0, std: float = 1, *, key: Array) -> Array:
    return mean + std * jax.random.normal(key, x.shape, x.dtype)


@aten("normal.float_float")
def normal(mean: float, std: float, size: Sequence[int], *, key: Array, dtype: jnp.dtype) -> Array:
    return mean + std * jax.random.normal(key, size, dtype)


@aten("normal.Tensor_float", "normal.float_Tensor", "normal.Tensor_Tensor", whole=True)
def normal_around(mean: Array, std: Array | float = 1, *, key: Array, dtype: jnp.dtype) -> Array:
    """Normal numbers of these means and deviations; without a gradient, as torch's."""
    shape = jnp.broadcast_shapes(jnp.shape(mean), jnp.shape(std))
    return jax.lax.stop_gradient(mean + std * jax.random.normal(key, shape, dtype)).astype(dtype)


@aten("exponential.default")
def exponential(x: Array, lambd: float = 1, *, key: Array) -> Array:
    return jax.random.exponential(key, x.shape, x.dtype) / lambd


@aten("native_dropout.default", results=(0,), whole=True)
def dropout(x: Array, p: float, train: bool | None = True, *, key: Array) -> Array:
    """x with a share p of its elements set to 0, and the others scaled so that the mean stays."""
    if train is False:
        return x
    if p == 1:
        return jnp.zeros_like(x)
    return jnp.where(jax.random.bernoulli(key, 1 - p, x.shape), x / (1 - p), 0)
