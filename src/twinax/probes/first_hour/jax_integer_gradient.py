"""A gradient by integers."""

import jax
import jax.numpy as jnp


def loss(w):
    return (w * w).sum()


w = jnp.array([1, 2, 3])
print(jax.grad(loss)(w))
