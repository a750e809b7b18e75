"""The training step as a person writes it in JAX, without any of twinax around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx


def step(runner: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> Callable[[int], None]:
    """``call(i)``: one step of SGD with momentum on batch i, modulo their number."""
    optimizer = optax.sgd(1e-4, momentum=0.9)
    graph = runner.model.graph
    params, state = jax.tree.map(jnp.copy, (runner.params, runner.state))
    opt_state = optimizer.init(params)
    data = [{n: jnp.asarray(_channels_last(a, runner)) for n, a in batch.items()} for batch in batches]
    (name,) = runner.inputs

    def objective(params: Any, state: Any, batch: Any) -> Any:
        model = nnx.merge(graph, params, *state, copy=True)
        model.train()
        loss = runner.code.loss(model(batch[name]), batch)
        return loss, nnx.split(model, nnx.Param, nnx.RngState, ...)[2:]

    def update(params: Any, state: Any, opt_state: Any, batch: Any) -> Any:
        (loss, state), grads = jax.value_and_grad(objective, has_aux=True)(params, state, batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return loss, optax.apply_updates(params, updates), state, opt_state

    if runner.mode == "jit":
        update = jax.jit(update, donate_argnums=(0, 1, 2))

    def call(i: int) -> None:
        nonlocal params, state, opt_state
        loss, params, state, opt_state = update(params, state, opt_state, data[i % len(data)])
        jax.block_until_ready((loss, params, state, opt_state))

    return call


def _channels_last(array: np.ndarray, runner: Any) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if runner.channels_last and array.ndim == 4 else array
