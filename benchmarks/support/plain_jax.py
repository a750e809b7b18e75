"""A data-parallel training step in JAX as its documentation writes it: a sharded batch, one jit, Optax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def data(twin: Any, weights: Any, batches: Any) -> Callable[[int], None]:
    """A step on global batch i; the processes have met already. The weights are the model's own."""
    code = twin.code("jax")
    model = code.build(twin.config)
    for _, layer in nnx.iter_modules(model):
        if isinstance(layer, nnx.Dropout):
            layer.rate = 0.0
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    everywhere, shared = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    transform = optax.sgd(1e-4, momentum=0.9)

    def whole(tree: Any) -> Any:
        return jax.device_put(tree, everywhere)

    def step(params: Any, rest: Any, slots: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            module = nnx.merge(graph, params, rest, copy=True)
            outputs = module(*(batch[name] for name in twin.inputs))
            return code.loss(outputs, batch), nnx.split(module, nnx.Param, ...)[2]

        (_, new_rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, slots = transform.update(gradients, slots, params)
        return optax.apply_updates(params, updates), new_rest, slots

    def placed(array: np.ndarray) -> jax.Array:
        moved = np.moveaxis(array, 1, -1) if twin.channels_last and array.ndim == 4 else array
        return jax.device_put(np.ascontiguousarray(moved), shared)

    carry = whole((params, rest, transform.init(params)))
    data = [{name: placed(array) for name, array in batch.items()} for batch in batches]
    run = jax.jit(step, donate_argnums=(0, 1, 2))

    def call(i: int) -> None:
        nonlocal carry
        carry = run(*carry, data[i % len(data)])
        jax.block_until_ready(carry)

    return call
