"""Attention."""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("scaled_dot_product_attention.default", whole=True)
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
    dropout: nnx.Dropout | None = None,
) -> Array:
    """softmax(query · keyᵀ · scale + mask) · value; zeros for a query that sees no key.

    ``attn_mask`` says which keys are seen, or is added to the scores. ``dropout`` falls on the softmax.
    """
    if dropout_p > 0 and dropout is None:
        raise NotImplementedError("attention with dropout_p needs a layer to draw it: pass dropout")
    if enable_gqa:  # each head of key and value serves several of query's
        repeats = query.shape[-3] // key.shape[-3]
        key, value = jnp.repeat(key, repeats, axis=-3), jnp.repeat(value, repeats, axis=-3)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.matmul(query, key.mT, preferred_element_type=wide) * scale  # (…, queries, keys)
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is not None:
        scores = jnp.where(attn_mask, scores, -jnp.inf) if attn_mask.dtype == bool else scores + attn_mask
    weights = safe_softmax(scores, -1).astype(value.dtype)
    if dropout is not None:
        weights = dropout(weights)
    return weights @ value


@aten("_safe_softmax.default", whole=True)
def safe_softmax(x: Array, dim: int, dtype: jnp.dtype | None = None) -> Array:
    """Softmax; zeros instead of NaN where all of x is −∞."""
    if dtype is not None:
        x = x.astype(dtype)
    top = lax.stop_gradient(jnp.max(x, dim, keepdims=True, initial=-jnp.inf))
    exponentials = jnp.exp(x - jnp.where(top == -jnp.inf, 0, top))
    total = exponentials.sum(dim, keepdims=True)
    return exponentials / jnp.where(total == 0, 1, total)


@aten("_scaled_dot_product_flash_attention_for_cpu.default", results=(0,))
def flash_attention(
    query: Array,
    key: Array,
    value: Array,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Array | None = None,
    scale: float | None = None,
) -> Array:
    return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale)


@aten("_native_multi_head_attention.default", whole=True, results=(0, 1))
def native_multi_head_attention(
    query: Array,
    key: Array,
    value: Array,
    embed_dim: int,
    num_head: int,
    qkv_weight: Array,
    qkv_bias: Array,
    proj_weight: Array,
    proj_bias: Array,
    mask: Array | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Array, Array]:
    """Torch's fast path of nn.MultiheadAttention, which computes what the plain path does."""
    raise NotImplementedError(
        "aten._native_multi_head_attention is not ported: call torch.backends.mha.set_fastpath_enabled(False)"
    )


@aten("_transformer_encoder_layer_fwd.default", whole=True)
def transformer_encoder_layer(
    src: Array,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Array,
    qkv_bias: Array,
    proj_weight: Array,
    proj_bias: Array,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Array,
    norm_bias_1: Array,
    norm_weight_2: Array,
    norm_bias_2: Array,
    ffn_weight_1: Array,
    ffn_bias_1: Array,
    ffn_weight_2: Array,
    ffn_bias_2: Array,
    mask: Array | None = None,
    mask_type: int | None = None,
) -> Array:
    """Torch's fast path of nn.TransformerEncoderLayer, which computes what the plain path does."""
    raise NotImplementedError(
        "aten._transformer_encoder_layer_fwd is not ported: call torch.backends.mha.set_fastpath_enabled(False)"
    )
