"""The programs in JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from twinax.probes.control_flow.cases import SEEN

Program = Callable[[Any], Array]


def place(array: np.ndarray) -> Array:
    return jnp.asarray(array)


REAL = True  # what compiles here is what users run


def compiled(program: Program, *, real: bool) -> Program:
    return jax.jit(program)


def graphs(program: Program, argument: Any) -> tuple[int, list[dict[str, Any]]]:
    """One graph and no breaks: a program is traced as a whole or not at all."""
    return 1, []


def finish() -> None:
    """Everything that was printed is there: callbacks run on their own time."""
    jax.effects_barrier()


# --- as a person would first write it ----------------------------------------------------------------


def branch(x: Array) -> Array:
    if x.sum() > 0:
        return x * 2
    return x - 1


def converge(x: Array) -> Array:
    z = x
    while abs(z * z - x) > 1e-9 * x:
        z = (z + x / z) / 2
    return z


def early_exit(x: Array) -> Array:
    total = jnp.zeros(())
    for value in x:
        total = total + value
        if total > 3:
            break
    return total


def tree(node: Any) -> Array:
    return node.sum() if isinstance(node, Array) else jnp.tanh(jnp.stack([tree(child) for child in node]).sum())


def any_length(x: Array) -> Array:
    return jnp.cumsum(x)[-1] / len(x)


def in_place(x: Array) -> Array:
    y = x.copy()
    y[0] = 5  # type: ignore[index]
    return y


def side_effect(x: Array) -> Array:
    SEEN.effects.append(len(x))
    return x * 2


def random(x: Array) -> Array:
    return x + np.random.standard_normal(x.shape)


def growing_list(x: Array) -> Array:
    kept = []
    for value in x:
        if value > 0:
            kept.append(value * 2)
    return jnp.stack(kept)


def printing(x: Array) -> Array:
    total = x.sum()
    print("total", total)
    return total


def numpy_inside(x: Array) -> Array:
    return jnp.asarray(np.sin(np.asarray(x)))


def shape_from_data(x: Array) -> Array:
    return x[x > 0] * 2


def object_state(x: Array) -> Array:
    SEEN.calls += 1
    return x * SEEN.calls


def raising(x: Array) -> Array:
    if (x < 0).any():
        raise ValueError("negative input")
    return jnp.sqrt(x)


# --- as the framework wants it -----------------------------------------------------------------------


def branch_idiom(x: Array) -> Array:
    return jax.lax.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, x)


def converge_idiom(x: Array) -> Array:
    return jax.lax.while_loop(lambda z: abs(z * z - x) > 1e-9 * x, lambda z: (z + x / z) / 2, x)


def early_exit_idiom(x: Array) -> Array:
    def go_on(carry: tuple[Array, Array]) -> Array:
        i, total = carry
        return (i < len(x)) & (total <= 3)

    start = (jnp.asarray(0), jnp.zeros(()))
    return jax.lax.while_loop(go_on, lambda carry: (carry[0] + 1, carry[1] + x[carry[0]]), start)[1]


def in_place_idiom(x: Array) -> Array:
    return x.at[0].set(5)


def side_effect_idiom(x: Array) -> Array:
    jax.debug.callback(lambda: SEEN.effects.append(len(x)))
    return x * 2


def random_idiom(given: tuple[Array, Array]) -> Array:
    x, key = given  # the caller keeps the key, and splits it for every call
    return x + jax.random.normal(key, x.shape)


def object_state_idiom(given: tuple[Array, Array]) -> Array:
    x, calls = given  # state comes in and goes out; the caller keeps it
    calls = calls + 1
    return jnp.append(x * calls, calls)


def growing_list_idiom(x: Array) -> Array:
    return jnp.where(x > 0, x * 2, 0)  # of fixed size; the mask says which count


def printing_idiom(x: Array) -> Array:
    total = x.sum()
    jax.debug.print("total {}", total)
    return total


def numpy_idiom(x: Array) -> Array:
    return jnp.sin(x)


def raising_idiom(x: Array) -> Array:
    return jnp.where((x < 0).any(), jnp.nan, jnp.sqrt(abs(x)))


NAIVE: Mapping[str, Program] = {
    "branch on data": branch,
    "loop to convergence": converge,
    "early exit": early_exit,
    "recursion over a tree": tree,
    "sequences of any length": any_length,
    "in-place update": in_place,
    "side effect in Python": side_effect,
    "random numbers": random,
    "a list that grows": growing_list,
    "print": printing,
    "NumPy inside": numpy_inside,
    "shape from data": shape_from_data,
    "state in an object": object_state,
    "exception raised on data": raising,
}

IDIOM: Mapping[str, Program] = {
    "branch on data": branch_idiom,
    "loop to convergence": converge_idiom,
    "early exit": early_exit_idiom,
    "in-place update": in_place_idiom,
    "side effect in Python": side_effect_idiom,
    "random numbers": random_idiom,
    "state in an object": object_state_idiom,
    "a list that grows": growing_list_idiom,
    "print": printing_idiom,
    "NumPy inside": numpy_idiom,
    "shape from data": growing_list_idiom,
    "exception raised on data": raising_idiom,
}

IDIOM_ARGUMENTS: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    "random numbers": lambda calls: list(
        zip(calls, jax.random.split(jax.random.key(0), len(calls)), strict=True)
    ),
    "state in an object": lambda calls: [(x, jnp.asarray(float(i))) for i, x in enumerate(calls)],
}
"""What the caller passes where the idiom needs another signature."""
