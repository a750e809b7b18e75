"""Attention is torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

from twinax.port.torch_to_jax.ops.attention import scaled_dot_product_attention

pytestmark = pytest.mark.slow

NAME = "scaled_dot_product_attention.default"
DTYPES = st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16])
SIZES = st.tuples(*[st.integers(1, 4)] * 4)  # queries, keys, width of key, width of value
SCALES = st.sampled_from([None, 1.0, 0.3])


def drawn(batch, sizes, seed, kinked, dtype, strided=False):
    queries, keys, width, value_width = sizes
    return (
        draw((*batch, queries, width), seed, kinked, dtype, strided),
        draw((*batch, keys, width), seed + 1, kinked, dtype, strided),
        draw((*batch, keys, value_width), seed + 2, kinked, dtype, strided),
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=shapes(1, 2, side=3), sizes=SIZES, seed=seeds, kinked=kinds, dtype=DTYPES, strided=st.booleans(),
    scale=SCALES, causal=st.booleans(),
)  # fmt: skip
def test_without_a_mask(batch, sizes, seed, kinked, dtype, strided, scale, causal):
    agree(NAME, *drawn(batch, sizes, seed, kinked, dtype, strided), is_causal=causal, scale=scale)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    sizes=SIZES, seed=seeds, kinked=kinds, dtype=DTYPES, broadcast=st.integers(0, 4), boolean=st.booleans(),
    infinite=st.booleans(), scale=SCALES,
)  # fmt: skip
def test_masks(sizes, seed, kinked, dtype, broadcast, boolean, infinite, scale):
    """The mask has fewer axes or ones; rows that see nothing are among the drawn ones."""
    shape = (2, 3, *sizes[:2])
    shape = (
        shape[broadcast:] if broadcast < 3 else (2, 1, *sizes[:2]) if broadcast == 3 else (2, 1, 1, sizes[1])
    )
    mask = draw(shape, seed + 3, dtype=torch.bool if boolean else dtype)
    if infinite and not boolean:
        mask = mask.masked_fill(mask < 0, -torch.inf)
    agree(NAME, *drawn((2, 3), sizes, seed, kinked, dtype), mask, scale=scale)


@pytest.mark.parametrize("boolean", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_query_that_sees_no_key(boolean, dtype):
    mask = torch.tensor([[True, False, True], [False, False, False]])
    if not boolean:
        mask = torch.where(mask, 0.0, -torch.inf).to(dtype)
    agree(NAME, *drawn((1, 2), (2, 3, 4, 4), 0, False, dtype), mask, constants=(mask,))


@pytest.mark.parametrize("heads, shared", [(4, 2), (6, 2), (3, 1)])
@pytest.mark.parametrize("causal", [True, False])
def test_heads_of_query_that_share_a_key(heads, shared, causal):
    query = draw((2, heads, 3, 4), 0)
    key, value = draw((2, shared, 3, 4), 1), draw((2, shared, 3, 4), 2)
    agree(NAME, query, key, value, None, 0.0, causal, enable_gqa=True)


def test_dropout_falls_on_the_weights():
    """With the identity as value, the result is the weights: dropped ones, and kept ones by 1 / (1 − rate)."""
    query = key = jnp.ones((1, 1, 200, 4))
    layer = nnx.Dropout(0.25, rngs=nnx.Rngs(0))
    weights = scaled_dot_product_attention(query, key, jnp.eye(200)[None, None], dropout=layer)
    kept = np.asarray(weights) > 0
    assert 0.23 < 1 - kept.mean() < 0.27
    np.testing.assert_allclose(np.asarray(weights)[kept], 1 / 200 / 0.75, rtol=1e-5)
    with pytest.raises(NotImplementedError, match="dropout"):
        scaled_dot_product_attention(query, key, query, dropout_p=0.1)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(1), seed=seeds, kinked=kinds, dtype=DTYPES, axis=st.integers(0, 3), hidden=st.booleans())
def test_safe_softmax(shape, seed, kinked, dtype, axis, hidden):
    x = draw(shape, seed, kinked, dtype)
    x = x.masked_fill(x < 0, -torch.inf) if hidden else x
    agree("_safe_softmax.default", x, axis % len(shape) - len(shape))
    agree("_safe_softmax.default", x.float(), axis % len(shape), dtype=torch.float64, gradients=False)


def test_flash_attention():
    q, k, v = drawn((2, 3), (4, 5, 6, 6), 0, False, torch.float64)
    mask = draw((4, 5), 3)
    agree("_scaled_dot_product_flash_attention_for_cpu.default", q, k, v, attn_mask=mask, gradients=False)
    agree("_scaled_dot_product_flash_attention_for_cpu.default", q, k, v, 0.0, True, scale=0.5)


def test_fast_paths_say_how_to_leave_them():
    from twinax.port.torch_to_jax.ops.base import FUNCTIONS

    for name in ("_native_multi_head_attention.default", "_transformer_encoder_layer_fwd.default"):
        parameters = torch.ops.aten.__getattr__(name.split(".")[0]).default._schema.arguments
        with pytest.raises(NotImplementedError, match="set_fastpath_enabled"):
            FUNCTIONS[name](*[None] * len(parameters))


def test_it_is_mapped_and_compiled():
    q = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 4, 5)))
    mapped = jax.jit(jax.vmap(lambda x: scaled_dot_product_attention(x, x, x, is_causal=True)))(q)
    np.testing.assert_allclose(mapped, scaled_dot_product_attention(q, q, q, is_causal=True), rtol=1e-5)
