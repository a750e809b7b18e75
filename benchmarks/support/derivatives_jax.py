"""Derivatives in JAX: one compiled function each, its inputs closed over nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from twinax.twin import Arrays


def _ready(function, *arguments):
    compiled = jax.jit(function)
    arguments = tuple(jnp.asarray(a) for a in arguments)
    return lambda: jax.block_until_ready(compiled(*arguments))


def sine(x, w):
    return jnp.sin(w @ x)


def vector(x, w):
    return jnp.tanh(w @ x)


def through_a_loop(given: Arrays):
    from twinax.probes.derivatives.reference import STEPS, H

    def total(x):
        return jax.lax.fori_loop(0, STEPS, lambda i, x: x + H * jnp.sin(x), x).sum()

    return _ready(jax.grad(total), given["x"])


def per_sample_gradients(given: Arrays):
    slope = jax.grad(lambda theta, x, y: (theta @ x - y) ** 2)
    return _ready(jax.vmap(slope, (None, 0, 0)), given["theta"], given["X"], given["y"])


def hessian_vector(given: Arrays):
    def product(x, w, v):
        return jax.jvp(lambda x: jax.grad(sine)(x, w), (x,), (v,))[1]

    return _ready(product, given["x"], given["w"], given["v"])


def jacobian_vector(given: Arrays):
    def product(x, w, v):
        return jax.jvp(lambda x: vector(x, w), (x,), (v,))[1]

    return _ready(product, given["x"], given["W"], given["v"])


def vector_jacobian(given: Arrays):
    def product(x, w, v):
        return jax.vjp(lambda x: vector(x, w), x)[1](v)[0]

    return _ready(product, given["x"], given["W"], given["v"])


BARE = {
    "gradient": lambda given: _ready(jax.grad(sine), given["x"], given["w"]),
    "jvp": jacobian_vector,
    "vjp": vector_jacobian,
    "jacobian_reverse": lambda given: _ready(jax.jacrev(vector), given["x"], given["W"]),
    "hessian_vector_product": hessian_vector,
    "per_sample_gradients": per_sample_gradients,
    "through_a_loop": through_a_loop,
}
