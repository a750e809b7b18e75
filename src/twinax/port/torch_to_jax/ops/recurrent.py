"""Recurrent networks: LSTM, GRU and plain ones, and their cells.

Each step multiplies its input itself: the products of all steps before the scan are slower on a CPU, since they
and their gradient go through memory.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


def scan_layers(
    step, input, hidden, params, has_biases, num_layers, dropout, train, bidirectional, batch_first, drop
):  # fmt: skip
    """Run a recurrent network of several layers and directions.

    Args:
        step: (input, state, w_ihᵀ, w_hhᵀ, b_ih, b_hh) → new state: a tuple whose last array is the output.
        input: (time, batch, features), or batch first.
        hidden: The state's arrays, (layers · directions, batch, size) each.
        params: Of each layer and direction w_ih, w_hh and, if any, b_ih, b_hh.
        drop: A layer for the dropout between layers in training.

    Returns:
        The last layer's outputs, and the last state.
    """
    directions = 2 if bidirectional else 1
    count = 4 if has_biases else 2
    if train and dropout > 0 and num_layers > 1 and drop is None:
        raise NotImplementedError("dropout between recurrent layers needs a layer to draw it: pass drop")
    x = input.swapaxes(0, 1) if batch_first else input  # (time, batch, features)
    last = []
    for layer in range(num_layers):
        if layer > 0 and drop is not None:
            x = drop(x)
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            w_ih, w_hh, *biases = params[index * count : (index + 1) * count]
            weights = (w_ih.T, w_hh.T, *(biases or (0, 0)))  # outside, or each step would transpose anew

            def cell(state, x, weights=weights):
                state = step(x, state, *weights)
                return state, state[-1]

            state, y = lax.scan(cell, tuple(h[index] for h in hidden), x, reverse=direction == 1)
            last.append(state)
            outputs.append(y)
        x = jnp.concatenate(outputs, -1)
    return x.swapaxes(0, 1) if batch_first else x, tuple(jnp.stack(h) for h in zip(*last, strict=True))


def lstm_step(x, state, u_ih, u_hh, b_ih, b_hh):
    """LSTM: gates i, f, g, o; c ← σ(f)·c + σ(i)·tanh(g), h ← σ(o)·tanh(c)."""
    c, h = state
    i, f, g, o = jnp.split(x @ u_ih + h @ u_hh + (b_ih + b_hh), 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)


def gru_step(x, state, u_ih, u_hh, b_ih, b_hh):
    """GRU: gates r, z, n; n = tanh(n_x + σ(r)·n_h) with n_h's own bias, h ← (1 − σ(z))·n + σ(z)·h."""
    (h,) = state
    r_x, z_x, n_x = jnp.split(x @ u_ih + b_ih, 3, -1)
    r_h, z_h, n_h = jnp.split(h @ u_hh + b_hh, 3, -1)
    r, z = jax.nn.sigmoid(r_x + r_h), jax.nn.sigmoid(z_x + z_h)
    n = jnp.tanh(n_x + r * n_h)
    return ((1 - z) * n + z * h,)


def tanh_step(x, state, u_ih, u_hh, b_ih, b_hh):
    """h ← tanh(W_ih·x + b_ih + W_hh·h + b_hh)."""
    return (jnp.tanh(x @ u_ih + state[0] @ u_hh + (b_ih + b_hh)),)


def relu_step(x, state, u_ih, u_hh, b_ih, b_hh):
    """h ← max(W_ih·x + b_ih + W_hh·h + b_hh, 0)."""
    return (jax.nn.relu(x @ u_ih + state[0] @ u_hh + (b_ih + b_hh)),)


@aten("lstm.input", whole=True)
def lstm(
    input: Array,
    hx: list[Array],
    params: list[Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    drop: nnx.Dropout | None = None,
) -> tuple[Array, Array, Array]:
    """LSTM, in torch's layout of parameters. Outputs, last hidden state, last cell state."""
    y, (c, h) = scan_layers(
        lstm_step,
        input,
        hx[::-1],
        params,
        has_biases,
        num_layers,
        dropout,
        train,
        bidirectional,
        batch_first,
        drop,
    )
    return y, h, c


@aten("gru.input", whole=True)
def gru(
    input: Array,
    hx: Array,
    params: list[Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    drop: nnx.Dropout | None = None,
) -> tuple[Array, Array]:
    """GRU, in torch's layout of parameters. Outputs, last hidden state."""
    y, (h,) = scan_layers(
        gru_step, input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first, drop
    )
    return y, h


@aten("rnn_tanh.input", whole=True)
def rnn_tanh(
    input: Array,
    hx: Array,
    params: list[Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    drop: nnx.Dropout | None = None,
) -> tuple[Array, Array]:
    """Recurrent network with tanh, in torch's layout of parameters. Outputs, last hidden state."""
    y, (h,) = scan_layers(
        tanh_step,
        input,
        (hx,),
        params,
        has_biases,
        num_layers,
        dropout,
        train,
        bidirectional,
        batch_first,
        drop,
    )
    return y, h


@aten("rnn_relu.input", whole=True)
def rnn_relu(
    input: Array,
    hx: Array,
    params: list[Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    drop: nnx.Dropout | None = None,
) -> tuple[Array, Array]:
    """Recurrent network with ReLU, in torch's layout of parameters. Outputs, last hidden state."""
    y, (h,) = scan_layers(
        relu_step,
        input,
        (hx,),
        params,
        has_biases,
        num_layers,
        dropout,
        train,
        bidirectional,
        batch_first,
        drop,
    )
    return y, h


@aten("lstm_cell.default")
def lstm_cell(
    input: Array,
    hx: tuple[Array, Array],
    w_ih: Array,
    w_hh: Array,
    b_ih: Array | None = None,
    b_hh: Array | None = None,
) -> tuple[Array, Array]:
    return lstm_step(input, hx[::-1], w_ih.T, w_hh.T, 0 if b_ih is None else b_ih, 0 if b_hh is None else b_hh)[
        ::-1
    ]


@aten("gru_cell.default")
def gru_cell(
    input: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> Array:
    return gru_step(input, (hx,), w_ih.T, w_hh.T, 0 if b_ih is None else b_ih, 0 if b_hh is None else b_hh)[0]


@aten("rnn_tanh_cell.default")
def rnn_tanh_cell(
    input: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> Array:
    return tanh_step(input, (hx,), w_ih.T, w_hh.T, 0 if b_ih is None else b_ih, 0 if b_hh is None else b_hh)[0]


@aten("rnn_relu_cell.default")
def rnn_relu_cell(
    input: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> Array:
    return relu_step(input, (hx,), w_ih.T, w_hh.T, 0 if b_ih is None else b_ih, 0 if b_hh is None else b_hh)[0]
