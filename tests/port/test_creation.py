"""Arrays made of numbers, copies, casts and complex numbers are torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, seeds, shapes, to_jax_dtype

import twinax.port.torch_to_jax.ops.creation  # noqa: F401 - declares the operations
from twinax.port.torch_to_jax.ops.base import FUNCTIONS

pytestmark = pytest.mark.slow

ATEN = torch.ops.aten
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int32, torch.bool]
sizes = shapes().map(list)
dtypes = st.sampled_from(DTYPES)
maybe = st.sampled_from([None, *DTYPES])


def given_dtype(dtype):
    return {} if dtype is None else {"dtype": dtype}


@settings(max_examples=EXAMPLES, deadline=None)
@given(size=sizes, dtype=maybe, number=st.sampled_from([0, 1, 2.5, True, -float("inf")]))
def test_of_a_size(size, dtype, number):
    agree("zeros.default", size, **given_dtype(dtype))
    agree("ones.default", size, **given_dtype(dtype))
    if dtype is None or dtype.is_floating_point or number in (0, 1):
        agree("full.default", size, number, **given_dtype(dtype))
        agree("scalar_tensor.default", number, **given_dtype(dtype))


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(), size=sizes, of=dtypes, dtype=maybe)
def test_like_another(shape, size, of, dtype):
    x = torch.ones(shape).to(of)
    for name in ("zeros_like", "ones_like"):
        agree(f"{name}.default", x, **given_dtype(dtype))
    for name in ("new_zeros", "new_ones"):
        agree(f"{name}.default", x, size, **given_dtype(dtype))
    agree("zero.default", x)
    agree("full_like.default", x, 1, **given_dtype(dtype))
    agree("new_full.default", x, size, 0, **given_dtype(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_what_torch_leaves_empty_is_zero(dtype):
    own = to_jax_dtype(dtype)
    x = jnp.ones((2, 3), own)
    with jax.enable_x64(True):
        made = [
            FUNCTIONS["empty.memory_format"]([2, 3], dtype=own),
            FUNCTIONS["empty_strided.default"]([2, 3], [1, 2], dtype=own),
            FUNCTIONS["empty_permuted.default"]([2, 3], [1, 0], dtype=own),
            FUNCTIONS["empty_like.default"](x, dtype=own),
            FUNCTIONS["new_empty.default"](x, [2, 3], dtype=own),
            FUNCTIONS["new_empty_strided.default"](x, [2, 3], [1, 2], dtype=own),
        ]
    for array in made:
        assert array.shape == (2, 3) and array.dtype == own and not array.any()


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    start=st.sampled_from([0, -2, 0.5, 3]),
    length=st.integers(0, 9),
    step=st.sampled_from([1, 2, -1, 0.25, -0.3]),
    dtype=st.sampled_from([None, torch.float64, torch.float32, torch.int64]),
)
def test_ranges(start, length, step, dtype):
    if dtype == torch.int64:
        start, step = int(start), int(np.sign(step) * np.ceil(abs(step)))
    agree("arange.default", length, **given_dtype(dtype))
    agree("arange.default", length + 0.5, **given_dtype(dtype if dtype != torch.int64 else None))
    agree("arange.start", start, start + length, **given_dtype(dtype))
    agree("arange.start_step", start, start + length * step, step, **given_dtype(dtype))
    agree(
        "linspace.default", start, start + step, length, **given_dtype(dtype if dtype != torch.int64 else None)
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(n=st.integers(0, 4), m=st.integers(0, 4), k=st.integers(-5, 5), dtype=maybe)
def test_matrices(n, m, k, dtype):
    agree("eye.default", n, **given_dtype(dtype))
    agree("eye.m", n, m, **given_dtype(dtype))
    agree("tril_indices.default", n, m, k)
    agree("triu_indices.default", n, m, k)
    agree("triu_indices.default", n, m, k, dtype=torch.int32)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(least=2), k=st.integers(-5, 5), seed=seeds, dtype=dtypes, strided=st.booleans())
def test_triangles(shape, k, seed, dtype, strided):
    x = draw(shape, seed, dtype=dtype, strided=strided)
    for name in ("tril.default", "triu.default"):
        agree(name, x, k)
        agree(name, x)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(least=1, most=2, side=3),
    offset=st.integers(-2, 2),
    dims=st.sampled_from([(-2, -1), (0, 1), (1, 0), (-1, 0), (0, -1)]),
    seed=seeds,
)
def test_diag_embed(shape, offset, dims, seed):
    agree("diag_embed.default", draw(shape, seed), offset, *dims)
    agree("diag_embed.default", draw(shape, seed))


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(least=1), seed=seeds, of=dtypes, dtype=dtypes)
def test_copies_and_casts(shape, seed, of, dtype):
    x = draw(shape, seed, dtype=of) if of != torch.float64 else draw(shape, seed) * 3
    for name in ("clone", "detach"):
        agree(f"{name}.default", x)
    agree("_to_copy.default", x)
    agree("_to_copy.default", x, dtype=dtype, gradients=dtype == torch.float64)
    agree("to.dtype", x, dtype, gradients=dtype == torch.float64)
    agree("type_as.default", x, draw((2,), dtype=dtype), gradients=dtype == torch.float64)


def rotate(ops, x, angles):
    """Rotary positions as Llama's authors write them."""
    turn = ops(
        "polar", jnp.ones_like(angles) if isinstance(angles, jax.Array) else torch.ones_like(angles), angles
    )
    z = ops("view_as_complex", x)
    turned = ops("view_as_real", z * turn)
    also = ops("real", ops("_conj", z) * turn) + ops("imag", ops("complex", x[..., 0], x[..., 1]))
    return turned[..., 0] * 2 + turned[..., 1] + also


def test_complex_numbers():
    """Values and, of real arrays, gradients. (``agree`` compares no complex numbers.)"""
    x, angles = draw((3, 4, 2)).requires_grad_(), draw((4,), 1).requires_grad_()
    expected = rotate(lambda name, *args: getattr(ATEN, name)(*args), x, angles)
    expected.square().sum().backward()

    def ours(x, angles):
        return rotate(lambda name, *args: FUNCTIONS[f"{name}.default"](*args), x, angles)

    with jax.enable_x64(True):
        arrays = jnp.asarray(x.detach().numpy()), jnp.asarray(angles.detach().numpy())
        np.testing.assert_allclose(ours(*arrays), expected.detach().numpy(), rtol=1e-12)
        gradients = jax.grad(lambda *args: jnp.sum(ours(*args) ** 2), argnums=(0, 1))(*arrays)
        np.testing.assert_allclose(gradients[0], x.grad.numpy(), rtol=1e-10)
        np.testing.assert_allclose(gradients[1], angles.grad.numpy(), rtol=1e-10)
