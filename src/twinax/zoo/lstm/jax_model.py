"""A stacked LSTM in JAX (Flax NNX), with the names of ``torch.nn.LSTM``, and a forecaster on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


@dataclass(frozen=True)
class Config:
    """``features`` in, ``horizon`` steps of each forecast out; ``dropout`` is between the layers."""

    features: int
    hidden: int
    layers: int
    bidirectional: bool
    dropout: float
    horizon: int


def reversed_within(x: Array, lengths: Array) -> Array:
    """Each sequence from its own end to its start; padding stays where it is. Twice is the identity."""
    # x: (batch, time, features); lengths: (batch,)
    time = jnp.arange(x.shape[1])
    index = jnp.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)  # (batch, time)
    return jnp.take_along_axis(x, index[:, :, None], axis=1)


class Recurrent(nnx.Module):
    """Layers of a recurrent cell over padded sequences; a subclass has the cell.

    Weights as in ``torch.nn.LSTM`` and ``torch.nn.GRU``: ``weight_ih_l0`` (gates · hidden, inputs),
    ``weight_hh_l0`` (gates · hidden, hidden), ``bias_ih_l0`` and ``bias_hh_l0`` (gates · hidden,); the other
    direction's end in ``_reverse``, the next layer's in ``_l1``.
    """

    gates: int

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.hidden, self.layers = config.hidden, config.layers
        self.directions = ("", "_reverse") if config.bidirectional else ("",)
        wide, inputs = self.gates * config.hidden, config.features
        for layer in range(config.layers):
            for direction in self.directions:
                suffix = f"l{layer}{direction}"
                setattr(self, f"weight_ih_{suffix}", nnx.Param(jnp.zeros((wide, inputs))))
                setattr(self, f"weight_hh_{suffix}", nnx.Param(jnp.zeros((wide, config.hidden))))
                setattr(self, f"bias_ih_{suffix}", nnx.Param(jnp.zeros(wide)))
                setattr(self, f"bias_hh_{suffix}", nnx.Param(jnp.zeros(wide)))
            inputs = len(self.directions) * config.hidden
        self.dropouts = nnx.List([nnx.Dropout(config.dropout, rngs=rngs) for _ in range(config.layers - 1)])

    def __call__(self, x: Array, lengths: Array) -> tuple[Array, Array]:
        # x: (batch, time, features); lengths: (batch,), each at least 1
        for layer in range(self.layers):
            x = self.dropouts[layer - 1](x) if layer else x
            ways = [self.one(x, lengths, f"l{layer}{way}") for way in self.directions]
            x = jnp.concatenate(ways, 2)  # (batch, time, directions · hidden)
        # neither direction has seen padding before a sequence's own steps: what it made of it is 0
        padding = jnp.arange(x.shape[1]) >= lengths[:, None]  # (batch, time)
        x = jnp.where(padding[:, :, None], 0, x)
        # forwards, the last state is that of each sequence's end; backwards, that of its start
        end = (lengths - 1)[:, None, None]
        last = jnp.take_along_axis(x[:, :, : self.hidden], end, axis=1)[:, 0]
        return x, jnp.concatenate([last, x[:, 0, self.hidden :]], 1)  # … and (batch, directions · hidden)

    def one(self, x: Array, lengths: Array, suffix: str) -> Array:
        """One layer in one direction: (batch, time, inputs) -> (batch, time, hidden)."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self, f"{name}_{suffix}")[...] for name in names]
        if not suffix.endswith("_reverse"):
            return self.recur(x, *weights)
        return reversed_within(self.recur(reversed_within(x, lengths), *weights), lengths)

    def recur(self, x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> Array:
        """The cell from state zero, over every step: (batch, time, inputs) -> (batch, time, hidden)."""
        raise NotImplementedError


class LSTM(Recurrent):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber, 1997; Gers et al., 2000).

    i, f, o = σ(W x + b + U h + d), g = tanh(W x + b + U h + d), each gate with rows of its own;
    c ← f c + i g;  h ← o tanh(c).
    """

    gates = 4  # i, f, g, o

    def recur(self, x: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> Array:
        zero = jnp.zeros((x.shape[0], self.hidden), x.dtype)
        u_ih, u_hh, bias = w_ih.T, w_hh.T, b_ih + b_hh  # outside, or each step would transpose them anew

        def step(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
            # x W of all steps before the scan would be slower on a CPU: it and its gradient go through memory
            c, h = state  # (batch, hidden); x: (batch, inputs). In this order XLA has less to copy on a CPU
            i, f, g, o = jnp.split(x @ u_ih + h @ u_hh + bias, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (c, h), h

        _, states = jax.lax.scan(step, (zero, zero), x.swapaxes(0, 1))
        return states.swapaxes(0, 1)


class Forecaster(nnx.Module):
    """Returns and log-volatility of the coming steps, linear in the last state."""

    def __init__(self, rnn: Recurrent, config: Config, *, rngs: nnx.Rngs) -> None:
        width = len(rnn.directions) * config.hidden
        self.rnn = rnn
        self.returns = nnx.Linear(width, config.horizon, rngs=rngs)
        self.log_volatility = nnx.Linear(width, config.horizon, rngs=rngs)

    def __call__(self, features: Array, lengths: Array) -> dict[str, Array]:
        _, last = self.rnn(features, lengths)  # (batch, time, features) -> (batch, width)
        return {"returns": self.returns(last), "log_volatility": self.log_volatility(last)}


def loss(outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> Array:
    """Mean squared error of the returns plus that of the log-volatility, both in standard deviations."""
    returns = jnp.square(outputs["returns"] - batch["returns"]).mean()
    return returns + jnp.square(outputs["log_volatility"] - batch["log_volatility"]).mean()


def build(config: Mapping[str, Any]) -> nnx.Module:
    """The forecaster that the configuration describes; its recurrent weights are zero until they are loaded."""
    c = Config(**{field.name: config[field.name] for field in fields(Config)})
    rngs = nnx.Rngs(0)
    return Forecaster(LSTM(c, rngs=rngs), c, rngs=rngs)
