"""One recurrent layer in JAX: the zoo's and Flax NNX's own, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinax.zoo.gru.jax_model import GRU
from twinax.zoo.lstm.jax_model import LSTM, Config

CELLS = {"lstm": (nnx.LSTMCell, nnx.OptimizedLSTMCell), "gru": (nnx.GRUCell,)}


def gradients(kind: str, hidden: int, data: np.ndarray) -> dict[str, Callable[[int], None]]:
    """``call(i)`` of each: the gradient on batch i of ``data`` (batches, batch, time, features)."""
    features = data.shape[-1]
    config = Config(features, hidden, layers=1, bidirectional=False, dropout=0.0, horizon=1)
    ours = {"lstm": LSTM, "gru": GRU}[kind](config, rngs=nnx.Rngs(0))
    lengths = jnp.full(data.shape[1], data.shape[2])
    batches = [jnp.asarray(batch) for batch in data]
    rng = np.random.default_rng(0)

    def call(
        model: nnx.Module, outputs: Callable[[Any, jax.Array, jax.Array], jax.Array]
    ) -> Callable[[int], None]:
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        bound = hidden**-0.5
        params = jax.tree.map(lambda p: jnp.asarray(rng.uniform(-bound, bound, p.shape), p.dtype), params)

        @jax.jit
        def gradient(params: Any, batch: jax.Array, lengths: jax.Array) -> Any:
            def objective(params: Any) -> jax.Array:
                return jnp.square(outputs(nnx.merge(graph, params, rest, copy=True), batch, lengths)).mean()

            return jax.grad(objective)(params)

        def run(i: int) -> None:
            jax.block_until_ready(gradient(params, batches[i % len(batches)], lengths))

        return run

    calls = {"ours": call(ours, lambda model, x, lengths: model(x, lengths)[0])}
    for cell in CELLS[kind]:
        own = nnx.RNN(cell(features, hidden, rngs=nnx.Rngs(0)))
        calls[f"flax.nnx.RNN({cell.__name__})"] = call(own, lambda model, x, lengths: model(x))
    for run in calls.values():
        run(0)
    return calls
