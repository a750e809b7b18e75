"""Derivatives of a model's loss beyond the gradient, in JAX's own ways.

Imports jax: only JAX workers import this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from twinax.frameworks.base import Derivative, example_weights, outermost_blocks
from twinax.frameworks.jax_models import Tap, Tree
from twinax.twin import Arrays

Objective = Callable[[Tree, Mapping[str, jax.Array], Tap | None], jax.Array]
"""``objective(params, data, tap) -> loss``, in eval mode."""


def make(
    kind: str,
    objective: Objective,
    params: Tree,
    data: Mapping[str, jax.Array],
    v: Callable[[], Tree],
    paths: list[str],
    arrays: Callable[[Tree], Arrays],
) -> Derivative:
    """One of ``DERIVATIVES``, compiled.

    Args:
        kind: Which.
        objective: The loss.
        params: What is differentiated.
        data: The batch.
        v: Makes the vector of a Hessian-vector product, like ``params``.
        paths: Of the model's modules.
        arrays: A tree like ``params`` as arrays under torch's names.
    """

    def loss(params: Tree, data: Mapping[str, jax.Array]) -> jax.Array:
        return objective(params, data, None)

    def one(params: Tree, example: Mapping[str, jax.Array]) -> jax.Array:
        return loss(params, {name: a[None] for name, a in example.items()})

    def hvp(params: Tree, data: Mapping[str, jax.Array], v: Tree) -> Tree:
        return jax.jvp(lambda p: jax.grad(loss)(p, data), (params,), (v,))[1]

    def weighted(found: Tree) -> Arrays:
        return arrays(jax.tree.map(_weighted, found))

    match kind:
        case "loss":
            return Derivative(_finished(jax.jit(loss), params, data), lambda _: {})
        case "gradient":
            return Derivative(_finished(jax.jit(jax.grad(loss)), params, data), arrays)
        case "rematerialised":
            again = jax.grad(lambda p, d: objective(p, d, _checkpointing(paths)))
            return Derivative(_finished(jax.jit(again), params, data), arrays)
        case "hvp":
            return Derivative(_finished(jax.jit(hvp), params, data, v()), arrays, "forward over reverse")
        case "per_sample_loop":
            return Derivative(_looped(jax.jit(jax.grad(loss)), params, data), weighted)
        case "per_sample":
            mapped = jax.jit(jax.vmap(jax.grad(one), in_axes=(None, 0)))
            return Derivative(_finished(mapped, params, data), weighted)
    raise ValueError(f"no derivative {kind!r}")


def _finished(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(function(*arguments))


def _looped(gradient: Callable[..., Tree], params: Tree, data: Mapping[str, jax.Array]) -> Callable[[], Tree]:
    """A compiled gradient called for one example after the other."""
    count = len(next(iter(data.values())))
    single = [{name: a[i : i + 1] for name, a in data.items()} for i in range(count)]

    def call() -> Tree:
        found = [gradient(params, example) for example in single]
        return jax.block_until_ready(jax.tree.map(lambda *leaves: jnp.stack(leaves), *found))

    return call


def _checkpointing(paths: list[str]) -> Tap:
    """A tap under which each block's activations are computed again in the backward pass."""
    blocks = frozenset(outermost_blocks(paths))
    if not blocks:
        raise NotImplementedError("the model has no repeated blocks to rematerialise")

    def tap(path: str, rate: float | None, call: Callable[[], Any], x: Any) -> Any:
        return jax.checkpoint(call)() if path in blocks else call()

    return tap


def _weighted(found: jax.Array) -> jax.Array:
    return jnp.tensordot(jnp.asarray(example_weights(len(found)), found.dtype), found, 1)
