"""Mistakes with what is traced, compiled and dispatched, in JAX."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from twinax.probes.mistakes.base import STEPS, X


def branch_on_a_value(mistake: bool) -> Array:
    @jax.jit
    def step(x: Array) -> Array:
        if mistake:
            return x * 2 if x.sum() > 0 else x
        return jnp.where(x.sum() > 0, x * 2, x)

    return step(jnp.asarray(X))


def side_effect(mistake: bool) -> list[float]:
    seen: list[float] = []

    @jax.jit
    def step(x: Array) -> Array:
        if mistake:
            seen.append(1.0)
        else:
            jax.debug.callback(lambda: seen.append(1.0))
        return x + 1

    for _ in range(STEPS):
        step(jnp.asarray(X)).block_until_ready()
    jax.effects_barrier()
    return seen


def value_kept_outside(mistake: bool) -> Array:
    kept: list[Array] = []

    @jax.jit
    def step(x: Array) -> tuple[Array, Array]:
        mean = x.mean()
        if mistake:
            kept.append(mean)
        return x - mean, mean

    _, mean = step(jnp.asarray(X))
    kept.append(mean)
    return kept[0] + 1


def changing_closure(mistake: bool) -> Array:
    settings = {"rate": 1.0}

    @jax.jit
    def step(x: Array, rate: float) -> Array:
        return x * (settings["rate"] if mistake else rate)

    step(jnp.asarray(X), settings["rate"])
    settings["rate"] = 0.1
    return step(jnp.asarray(X), settings["rate"])


def donated_buffer(mistake: bool) -> Array:
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = jnp.asarray(X) * 1
    y = step(x if mistake else x.copy())
    return y + x


def compiled_at_every_step(mistake: bool) -> Array:
    def double(x: Array) -> Array:
        return jnp.tanh(x) * 2 + jnp.sin(x)

    x, step = jnp.asarray(X), jax.jit(double)
    for _ in range(STEPS):
        if mistake:
            step = jax.jit(lambda x: double(x))
        x = step(x)
    return x


def shape_from_data(mistake: bool) -> Array:
    @jax.jit
    def total(x: Array) -> Array:
        return x[x > 1].sum() if mistake else jnp.where(x > 1, x, 0).sum()

    return total(jnp.asarray(X))


def list_as_a_setting(mistake: bool) -> Array:
    scaled = jax.jit(lambda x, factors: x * factors[0], static_argnums=1)
    return scaled(jnp.asarray(X), [2.0] if mistake else (2.0,))


def numpy_inside(mistake: bool) -> Array:
    return jax.jit(lambda x: np.sin(x) if mistake else jnp.sin(x))(jnp.asarray(X))


def numpy_random_inside(mistake: bool) -> int:
    generator = np.random.default_rng(0)

    @jax.jit
    def noisy(x: Array, key: Array) -> Array:
        noise = generator.normal(size=3) if mistake else jax.random.normal(key, (3,))
        return x + noise

    first, second = (noisy(jnp.asarray(X), jax.random.key(i)) for i in range(2))
    return int((first == second).all())


def unblocked_timing(mistake: bool) -> bool:
    work = jax.jit(lambda x: jax.lax.fori_loop(0, 40, lambda i, y: jnp.tanh(y @ x), x))
    x = jnp.ones((300, 300))
    work(x).block_until_ready()
    start = time.perf_counter()
    y = work(x)
    if not mistake:
        y.block_until_ready()
    told = time.perf_counter() - start
    y.block_until_ready()
    return told > (time.perf_counter() - start) / 2


PROGRAMS = {
    "Python if on a traced value": branch_on_a_value,
    "side effect in a compiled function": side_effect,
    "traced value kept outside": value_kept_outside,
    "closure over what changes later": changing_closure,
    "donated buffer used again": donated_buffer,
    "compiled anew at every step": compiled_at_every_step,
    "shape from data": shape_from_data,
    "a list as a static setting": list_as_a_setting,
    "NumPy inside a compiled function": numpy_inside,
    "NumPy's random numbers inside": numpy_random_inside,
    "timing without waiting": unblocked_timing,
}
CANNOT: dict[str, str] = {}
