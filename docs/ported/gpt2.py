"""GPT2LMHeadModel in JAX (Flax NNX).

Ported from PyTorch by twinax. Parameters have PyTorch's names and layouts. ``model.train()`` and
``model.eval()`` switch dropout and batch statistics, which the model updates in its own variables.
"""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from safetensors.numpy import load_file


def layer_norm(
    input: Array, normalized_shape: list[int], weight: Array | None = None, bias: Array | None = None,
    eps: float = 1e-05,
) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, over the last dimensions."""
    axes = tuple(range(-len(normalized_shape), 0))
    x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
    x = x - x.mean(axes, keepdims=True)
    y = x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + eps)
    y = y * weight
    y = y + bias
    return y.astype(input.dtype)


def safe_softmax(x: Array, dim: int) -> Array:
    """Softmax; zeros instead of NaN where all of x is −∞."""
    x = x
    top = lax.stop_gradient(jnp.max(x, dim, keepdims=True, initial=-jnp.inf))
    exponentials = jnp.exp(x - jnp.where(top == -jnp.inf, 0, top))
    total = exponentials.sum(dim, keepdims=True)
    return exponentials / jnp.where(total == 0, 1, total)


def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None, *, scale: float | None = None,
    dropout: nnx.Dropout | None = None,
) -> Array:
    """softmax(query · keyᵀ · scale + mask) · value; zeros for a query that sees no key.

    ``attn_mask`` says which keys are seen, or is added to the scores. ``dropout`` falls on the softmax.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.matmul(query, key.mT, preferred_element_type=wide) * scale  # (…, queries, keys)
    scores = jnp.where(attn_mask, scores, -jnp.inf) if attn_mask.dtype == bool else scores + attn_mask
    weights = safe_softmax(scores, -1).astype(value.dtype)
    weights = dropout(weights)
    return weights @ value


class Embedding(nnx.Module):
    """torch.nn.Embedding."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.weight = nnx.Param(jnp.zeros((num_embeddings, embedding_dim)))

    def __call__(self, x: Array) -> Array:
        return self.weight[...][x]


class LayerNorm(nnx.Module):
    """torch.nn.LayerNorm."""

    def __init__(self, normalized_shape: int) -> None:
        self.normalized_shape = normalized_shape
        self.weight = nnx.Param(jnp.zeros((normalized_shape,)))
        self.bias = nnx.Param(jnp.zeros((normalized_shape,)))

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, (self.normalized_shape,), self.weight[...], self.bias[...])


class Conv1D(nnx.Module):
    """Conv1D (transformers/pytorch_utils.py, line 95)."""

    def __init__(self, nf: int, nx: int) -> None:
        self.nf = nf
        self.nx = nx
        self.weight = nnx.Param(jnp.zeros((nx, nf)))
        self.bias = nnx.Param(jnp.zeros((nf,)))

    def __call__(self, x: Array) -> Array:
        x_2 = self.bias[...] + x.reshape(x.shape[0] * x.shape[1], self.nx) @ self.weight[...]
        return x_2.reshape(x.shape[0], x.shape[1], self.nf)


class NewGELUActivation(nnx.Module):
    """NewGELUActivation (transformers/activations.py, line 58)."""

    def __call__(self, x: Array) -> Array:
        return x * 0.5 * (jnp.tanh((x + x ** 3.0 * 0.044715) * 0.7978845608028654) + 1.0)


class Linear(nnx.Module):
    """torch.nn.Linear."""

    def __call__(self, input: Array, weight: Array) -> Array:
        return input @ weight.T


class GPT2Attention(nnx.Module):
    """GPT2Attention (transformers/models/gpt2/modeling_gpt2.py, line 75)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.c_attn = Conv1D(2304, 768)
        self.c_proj = Conv1D(768, 768)
        self.attn_dropout = nnx.Dropout(0.1, rngs=rngs)
        self.resid_dropout = nnx.Dropout(0.1, rngs=rngs)
        self.attention_dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, hidden_states: Array, past_key_values: Array) -> Array:
        hidden_states = self.c_attn(hidden_states)  # (batch, length, 2304)
        query_states, key_states, value_states = jnp.split(
            hidden_states, np.arange(768, hidden_states.shape[2], 768), axis=2
        )
        key_states = jnp.swapaxes(
            key_states.reshape(key_states.shape[0], key_states.shape[1], 12, 64), 1, 2
        )
        x = value_states.reshape(value_states.shape[0], value_states.shape[1], 12, 64)
        value_states = jnp.swapaxes(x, 1, 2)  # (batch, 12, length, 64)
        x = query_states.reshape(query_states.shape[0], query_states.shape[1], 12, 64)
        query_states = jnp.swapaxes(x, 1, 2)  # (batch, 12, length, 64)
        x = scaled_dot_product_attention(
            query_states, key_states, value_states, past_key_values, scale=0.125,
            dropout=self.attention_dropout,
        )
        x = jnp.swapaxes(x, 1, 2)  # (batch, length, 12, 64)
        attn_output = x.reshape(x.shape[0], x.shape[1], 768)  # (batch, length, 768)
        attn_output = self.c_proj(attn_output)
        return self.resid_dropout(attn_output)


class GPT2MLP(nnx.Module):
    """GPT2MLP (transformers/models/gpt2/modeling_gpt2.py, line 229)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.c_fc = Conv1D(3072, 768)
        self.c_proj = Conv1D(768, 3072)
        self.act = NewGELUActivation()
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, hidden_states: Array) -> Array:
        hidden_states = self.c_fc(hidden_states)  # (batch, length, 3072)
        hidden_states = self.act(hidden_states)
        hidden_states = self.c_proj(hidden_states)  # (batch, length, 768)
        return self.dropout(hidden_states)


class GPT2Block(nnx.Module):
    """GPT2Block (transformers/models/gpt2/modeling_gpt2.py, line 246)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.ln_1 = LayerNorm(768)
        self.attn = GPT2Attention(rngs=rngs)
        self.ln_2 = LayerNorm(768)
        self.mlp = GPT2MLP(rngs=rngs)

    def __call__(self, hidden_states: Array, past_key_values: Array) -> Array:
        hidden_states_2 = self.ln_1(hidden_states)
        hidden_states = self.attn(hidden_states_2, past_key_values) + hidden_states
        hidden_states_2 = self.ln_2(hidden_states)
        feed_forward_hidden_states = self.mlp(hidden_states_2)
        return hidden_states + feed_forward_hidden_states


class GPT2Model(nnx.Module):
    """GPT2Model (transformers/models/gpt2/modeling_gpt2.py, line 483)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.wte = Embedding(50257, 768)
        self.wpe = Embedding(1024, 768)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.h = nnx.List([GPT2Block(rngs=rngs) for _ in range(12)])
        self.ln_f = LayerNorm(768)

    def __call__(self, input_ids: Array, attention_mask: Array) -> Array:
        inputs_embeds = self.wte(input_ids)  # (batch, length, 768)
        position_ids = jnp.arange(input_ids.shape[1], dtype=int)  # (length,)
        position_ids = position_ids[None]  # (1, length)
        position_embeds = self.wpe(position_ids)  # (1, length, 768)
        hidden_states = inputs_embeds + position_embeds  # (batch, length, 768)
        x = jnp.arange(input_ids.shape[1], dtype=int)[None, None, :, None]  # (1, 1, length, 1)
        x_2 = jnp.arange(input_ids.shape[1], dtype=int)[None, None, None]  # (1, 1, 1, length)
        input_ids = jnp.arange(input_ids.shape[0], dtype=int)[:, None, None, None]  # (batch, 1, 1, 1)
        causal_mask = jnp.ones((), bool) & (x_2 <= x) & attention_mask.astype(bool)[input_ids, x_2]
        hidden_states = self.drop(hidden_states)  # (batch, length, 768)
        for block in self.h:
            hidden_states = block(hidden_states, causal_mask)
        return self.ln_f(hidden_states)


class GPT2LMHeadModel(nnx.Module):
    """GPT2LMHeadModel (transformers/models/gpt2/modeling_gpt2.py, line 628)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.transformer = GPT2Model(rngs=rngs)
        self.lm_head = Linear()

    def __call__(self, input_ids: Array, attention_mask: Array) -> dict[str, Array]:
        transformer_outputs = self.transformer(input_ids, attention_mask)  # (batch, length, 768)
        hidden_states = transformer_outputs
        return {'logits': self.lm_head(hidden_states, self.transformer.wte.weight[...])}


def build() -> GPT2LMHeadModel:
    """The model with all weights zero, in eval mode."""
    model = GPT2LMHeadModel(rngs=nnx.Rngs(0))
    model.eval()
    return model


def load(path: str | Path) -> GPT2LMHeadModel:
    """The model with the weights of a safetensors file, in their dtype."""
    model = build()
    weights = load_file(path)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    for names, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(weights[".".join(map(str, names))]))
    nnx.update(model, state)
    return model
