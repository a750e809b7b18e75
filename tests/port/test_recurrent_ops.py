"""Recurrent networks are torch's."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds

from twinax.port.torch_to_jax.ops.recurrent import lstm

pytestmark = pytest.mark.slow

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
KINDS = list(GATES)
DTYPES = st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16])


def parameters(kind, features, size, layers, directions, biases, seed, dtype):
    """torch's flat list."""
    rows, made = GATES[kind] * size, []
    for layer in range(layers):
        width = features if layer == 0 else size * directions
        for _ in range(directions):
            made += [(rows, width), (rows, size)] + ([(rows,), (rows,)] if biases else [])
    return [draw(shape, seed + n, dtype=dtype) for n, shape in enumerate(made)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 3)] * 4),
    layers=st.integers(1, 2),
    directions=st.integers(1, 2),
    biases=st.booleans(),
    batch_first=st.booleans(),
    train=st.booleans(),
    seed=seeds,
    drawn=st.tuples(kinds, DTYPES, st.booleans()),
)
def test_layers(kind, sizes, layers, directions, biases, batch_first, train, seed, drawn):
    time, batch, features, size = sizes
    shape = (batch, time, features) if batch_first else (time, batch, features)
    x, dtype = draw(shape, seed, *drawn), drawn[1]
    states = [draw((layers * directions, batch, size), seed + 90 + n, dtype=dtype) for n in range(2)]
    weights = parameters(kind, features, size, layers, directions, biases, seed + 7, dtype)
    hidden = states if kind == "lstm" else states[0]
    options = (biases, layers, 0.0 if train else 0.5, train, directions == 2, batch_first)
    agree(f"{kind}.input", x, hidden, weights, *options)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(0, 3), features=st.integers(1, 3), size=st.integers(1, 3), biases=st.booleans(),
    seed=seeds, kinked=kinds, dtype=DTYPES,
)  # fmt: skip
def test_cells(kind, batch, features, size, biases, seed, kinked, dtype):
    x = draw((batch, features), seed, kinked, dtype)
    states = [draw((batch, size), seed + 90 + n, dtype=dtype) for n in range(2)]
    weights = parameters(kind, features, size, 1, 1, biases, seed + 7, dtype)
    agree(f"{kind}_cell.default", x, states if kind == "lstm" else states[0], *weights)


def run(x, hidden, weights, layers, train, seed):
    drop = None if seed is None else nnx.Dropout(0.5, rngs=nnx.Rngs(seed))
    hidden, weights = [h[:layers] for h in hidden], weights[: 4 * layers]
    return lstm(x, hidden, weights, True, layers, 0.5, train, False, False, drop=drop)[0]


def test_dropout_falls_between_layers_only():
    weights = [jnp.asarray(w.numpy()) for w in parameters("lstm", 2, 50, 2, 1, True, 0, torch.float32)]
    given_ = (jnp.ones((3, 4, 2)), [jnp.zeros((2, 4, 50))] * 2, weights)
    one, other = 0, 1
    assert np.array_equal(run(*given_, 1, True, None), run(*given_, 1, False, None))
    assert np.array_equal(run(*given_, 2, True, one), run(*given_, 2, True, one))
    assert not np.allclose(run(*given_, 2, True, one), run(*given_, 2, True, other))
    assert not np.allclose(run(*given_, 2, True, one), run(*given_, 2, False, None))
    with pytest.raises(NotImplementedError, match="drop"):
        run(*given_, 2, True, None)


def test_the_dropout_keeps_the_expectation():
    """A second layer that is almost linear gives, on average, what it gives without dropout."""
    weights = [jnp.asarray(w.numpy()) * 0.02 for w in parameters("lstm", 2, 4, 2, 1, True, 0, torch.float32)]
    weights[:2] = [w * 50 for w in weights[:2]]
    given_ = (jnp.ones((1, 4000, 2)), [jnp.zeros((2, 4000, 4))] * 2, weights)
    with_it, without = run(*given_, 2, True, 0), run(*given_, 2, False, None)
    np.testing.assert_allclose(with_it.mean(1), without.mean(1), rtol=0.05, atol=2e-5)
