"""Random arrays have torch's shapes, dtypes, ranges and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import twinax.port.torch_to_jax.ops.randomness  # noqa: F401 - declares the operations
from twinax.port.torch_to_jax.ops.base import FUNCTIONS

pytestmark = pytest.mark.slow

N = 40_000
KEY = jax.random.key(0)
DTYPES = [jnp.dtype("float32"), jnp.dtype("bfloat16")]


def call(name, *args, **kwargs):
    return FUNCTIONS[name](*args, key=kwargs.pop("key", KEY), **kwargs)


def is_distributed(array, mean, std):
    """Within five standard errors."""
    numbers = np.asarray(array, np.float64)
    assert abs(numbers.mean() - mean) < 5 * std / N**0.5 + 1e-3
    assert abs(numbers.std() - std) < 10 * std / N**0.5 + 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 1, 4)])
def test_shapes_and_dtypes(shape, dtype):
    x = jnp.full(shape, 0.5, dtype)
    integer = jnp.dtype("int32")
    for array, wanted in [
        (call("rand.default", shape, dtype=dtype), dtype),
        (call("randn.default", shape, dtype=dtype), dtype),
        (call("rand_like.default", x), dtype),
        (call("randn_like.default", x, dtype=jnp.float32), jnp.float32),
        (call("randint.default", 5, shape, dtype=integer), integer),
        (call("randint.low", 2, 5, shape, dtype=dtype), dtype),
        (call("randint_like.default", x, 5), dtype),
        (call("randint_like.low_dtype", x, 2, 5, dtype=integer), integer),
        (call("bernoulli.default", x), dtype),
        (call("bernoulli.p", x, 0.3), dtype),
        (call("uniform.default", x, -1, 1), dtype),
        (call("normal_functional.default", x, 1, 2), dtype),
        (call("normal.float_float", 1, 2, shape, dtype=dtype), dtype),
        (call("normal.Tensor_float", x, 2, dtype=dtype), dtype),
        (call("exponential.default", x), dtype),
        (call("native_dropout.default", x, 0.3, True), dtype),
    ]:
        assert array.shape == shape and array.dtype == wanted


def test_moments():
    x = jnp.zeros(N)
    is_distributed(call("rand.default", [N], dtype=jnp.float32), 0.5, 12**-0.5)
    is_distributed(call("rand_like.default", x), 0.5, 12**-0.5)
    is_distributed(call("uniform.default", x, -1, 3), 1, 4 * 12**-0.5)
    is_distributed(call("uniform.default", x), 0.5, 12**-0.5)
    is_distributed(call("randn.default", [N], dtype=jnp.float32), 0, 1)
    is_distributed(call("randn_like.default", x), 0, 1)
    is_distributed(call("normal_functional.default", x, 3, 0.5), 3, 0.5)
    is_distributed(call("normal_functional.default", x), 0, 1)
    is_distributed(call("normal.float_float", 3, 0.5, [N], dtype=jnp.float32), 3, 0.5)
    is_distributed(call("normal.Tensor_float", x + 2, 3.0, dtype=jnp.float32), 2, 3)
    is_distributed(call("normal.float_Tensor", 2.0, x + 3, dtype=jnp.float32), 2, 3)
    is_distributed(call("exponential.default", x, 2), 0.5, 0.5)
    is_distributed(call("bernoulli.p", x, 0.3), 0.3, 0.21**0.5)
    is_distributed(call("bernoulli.default", x + 0.3), 0.3, 0.21**0.5)
    is_distributed(call("bernoulli.Tensor", x, x + 0.3), 0.3, 0.21**0.5)


def test_ranges():
    numbers = call("randint.low", -2, 3, [N], dtype=jnp.dtype("int32"))
    assert set(np.unique(numbers)) == {-2, -1, 0, 1, 2}
    assert set(np.unique(call("randint.default", 3, [N], dtype=jnp.dtype("int32")))) == {0, 1, 2}
    assert set(np.unique(call("randint_like.low_dtype", jnp.zeros(N), 1, 3, dtype=jnp.float32))) == {1.0, 2.0}
    numbers = call("uniform.default", jnp.zeros(N), -1, 3)
    assert -1 <= numbers.min() < -0.9 and 2.9 < numbers.max() < 3
    np.testing.assert_array_equal(np.sort(call("randperm.default", 9, dtype=jnp.dtype("int32"))), np.arange(9))
    assert call("randperm.default", 0, dtype=jnp.dtype("int32")).shape == (0,)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_dropout(p):
    x = jnp.linspace(1, 2, N)
    y, vjp = jax.vjp(lambda x: call("native_dropout.default", x, p, True), x)
    kept = y != 0
    assert abs(float(kept.mean()) - (1 - p)) < 0.02
    np.testing.assert_allclose(y[kept], x[kept] / (1 - p), rtol=1e-6)
    (gradient,) = vjp(jnp.ones(N))
    np.testing.assert_allclose(gradient, np.where(kept, 1 / (1 - p) if p < 1 else 0, 0), rtol=1e-6)
    np.testing.assert_array_equal(call("native_dropout.default", x, p, False), x)
    if 0 < p < 1:
        assert (call("native_dropout.default", x, p, None, key=jax.random.key(1)) != y).any()
