"""A stacked GRU in JAX (NNX), with the names of ``torch.nn.GRU``: the LSTM's layers and heads, another cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from twinax.zoo.lstm.jax_model import Config, Forecaster, Recurrent, loss

__all__ = ["build", "loss"]


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078), the reset gate after the product as in cuDNN.

    r, z = σ(W x + b + U h + d), n = tanh(W x + b + r (U h + d)), each gate with rows of its own;
    h ← (1 − z) n + z h.
    """

    gates = 3  # r, z, n

    def recur(self, x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> Array:
        zero = jnp.zeros((x.shape[0], self.hidden), x.dtype)
        u_ih, u_hh = w_ih.T, w_hh.T  # outside, or each step would transpose them anew

        def step(h: Array, x: Array) -> tuple[Array, Array]:
            # h: (batch, hidden); x: (batch, inputs)
            x_r, x_z, x_n = jnp.split(x @ u_ih + b_ih, 3, axis=1)
            h_r, h_z, h_n = jnp.split(h @ u_hh + b_hh, 3, axis=1)
            r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
            n = jnp.tanh(x_n + r * h_n)
            h = (1 - z) * n + z * h
            return h, h

        _, states = jax.lax.scan(step, zero, x.swapaxes(0, 1))
        return states.swapaxes(0, 1)


def build(config: Mapping[str, Any]) -> nnx.Module:
    """The forecaster that the configuration describes; its recurrent weights are zero until they are loaded."""
    c = Config(**{field.name: config[field.name] for field in fields(Config)})
    rngs = nnx.Rngs(0)
    return Forecaster(GRU(c, rngs=rngs), c, rngs=rngs)
