"""Mistakes with data, workers and shared memory, in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from twinax.probes.mistakes.base import BUFFER, X

ALIGNED = 64  # bytes: JAX's CPU arrays may share the memory of a NumPy array that starts at a multiple


def unseeded_workers(mistake: bool) -> int:
    """Every worker process starts from the same script, with the same key in it."""
    drawn: set[int] = set()
    for worker in range(2):
        key = jax.random.key(0)
        if not mistake:
            key = jax.random.fold_in(key, worker)
        drawn |= set(jax.random.bits(key, (2,)).tolist())
    return len(drawn)


def array_changed_afterwards(mistake: bool) -> Array:
    memory = np.zeros(BUFFER.nbytes + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    buffer = memory[start : start + BUFFER.nbytes].view(BUFFER.dtype)
    buffer[:] = BUFFER
    batch = jax.device_put(buffer if mistake else buffer.copy())
    batch.block_until_ready()
    buffer[:] = 0
    return batch


def argument_changed(mistake: bool) -> Array:
    def centred(x: Array) -> Array:
        if mistake:
            x -= x.mean()
        else:
            x = x - x.mean()
        return x

    x = jnp.asarray(X)
    centred(x)
    return x


PROGRAMS = {
    "workers with the same seed": unseeded_workers,
    "NumPy array changed afterwards": array_changed_afterwards,
    "a function that changes its argument": argument_changed,
}
CANNOT: dict[str, str] = {}
