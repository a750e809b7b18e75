"""Mistakes with number types, overflow and NaN, in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from twinax.probes.mistakes.base import FINE, PIXELS, WEIGHTS, X


def integer_input(mistake: bool) -> Array:
    x = jnp.asarray([1, 2, 3] if mistake else [1.0, 2.0, 3.0])
    return x @ jnp.asarray(WEIGHTS)


def gradient_by_an_integer(mistake: bool) -> Array:
    x = jnp.asarray([1, 2, 3] if mistake else [1.0, 2.0, 3.0])
    return jax.grad(lambda x: (x**2).sum())(x)


def log_of_zero(mistake: bool) -> Array:
    p = jnp.asarray([0.0, 0.25, 0.75])
    return -(p * jnp.log(p if mistake else jnp.where(p > 0, p, 1.0))).sum()


def where_after_log(mistake: bool) -> Array:
    def loss(x: Array) -> Array:
        safe = x if mistake else jnp.where(x > 0, x, 1.0)
        return jnp.where(x > 0, jnp.log(safe), 0.0).sum()

    return jax.grad(loss)(jnp.asarray([0.0, 1.0, 4.0]))


def root_of_zero(mistake: bool) -> Array:
    def norm(x: Array) -> Array:
        squared = (x**2).sum()
        return jnp.sqrt(squared) if mistake else jnp.where(squared > 0, jnp.sqrt(squared + (squared == 0)), 0)

    return jax.grad(norm)(jnp.zeros(3))


def float64_cut(mistake: bool) -> Array:
    with jax.enable_x64(not mistake):
        return jnp.asarray(FINE) - 1


def float64_by_name(mistake: bool) -> Array:
    with jax.enable_x64(not mistake):
        return jnp.asarray(FINE, dtype=jnp.float64) - 1


def float64_meets_float32(mistake: bool) -> Array:
    x = jnp.asarray(np.asarray(X, dtype=np.float64 if mistake else np.float32))
    return x @ jnp.asarray(WEIGHTS)


def integer_overflow(mistake: bool) -> Array:
    with jax.enable_x64(not mistake):
        counts = jnp.asarray([2**31 - 1, 1])
        return counts[0] + counts[1]


def bytes_subtracted(mistake: bool) -> Array:
    a, b = jnp.asarray(PIXELS[0]), jnp.asarray(PIXELS[1])
    return a - b if mistake else a.astype(jnp.int32) - b.astype(jnp.int32)


def half_overflow(mistake: bool) -> Array:
    x = jnp.full((4,), 300.0, dtype=jnp.float16)
    return jnp.sqrt(((x if mistake else x.astype(jnp.float32)) ** 2).mean())


def fraction_into_integers(mistake: bool) -> Array:
    x = jnp.zeros(3, dtype=jnp.int32 if mistake else jnp.float32)
    return x.at[0].set(0.75)


PROGRAMS = {
    "integer input": integer_input,
    "gradient by an integer": gradient_by_an_integer,
    "log of zero": log_of_zero,
    "where after the log": where_after_log,
    "square root of zero": root_of_zero,
    "float64 cut": float64_cut,
    "float64 asked for by name": float64_by_name,
    "float64 data meets float32 weights": float64_meets_float32,
    "integer overflow": integer_overflow,
    "bytes subtracted": bytes_subtracted,
    "overflow in half precision": half_overflow,
    "a fraction written into integers": fraction_into_integers,
}
CANNOT: dict[str, str] = {}
