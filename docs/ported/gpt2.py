"""GPT2LMHeadModel in JAX (Flax NNX).

Ported from PyTorch by twinax, whose parameters keep PyTorch's names and layouts. ``model.train()`` and
``model.eval()`` switch dropout and batch statistics, which the model updates in its own variables.
"""

from pathlib import Path

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from safetensors.numpy import load_file


def layer_norm(input: Array, normalized_shape: list[int], weight: Array, bias: Array) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, over the last dimensions."""
    axes = tuple(range(-len(normalized_shape), 0))
    x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
    x = x - x.mean(axes, keepdims=True)
    y = x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + 1e-05) * weight + bias
    return y.astype(input.dtype)


def safe_softmax(x: Array, dim: int) -> Array:
    """Softmax; zeros instead of NaN where all of x is −∞."""
    top = lax.stop_gradient(jnp.max(x, dim, keepdims=True, initial=-jnp.inf))
    exponentials = jnp.exp(x - jnp.where(top == -jnp.inf, 0, top))
    total = exponentials.sum(dim, keepdims=True)
    return exponentials / jnp.where(total == 0, 1, total)


def scaled_dot_product_attention(
    query: Array, key: Array, value: Array, attn_mask: Array, *, scale: float, dropout: nnx.Dropout
) -> Array:
    """softmax(query · keyᵀ · scale + mask) · value; zeros for a query that sees no key.

    ``attn_mask`` says which keys are seen, or is added to the scores. ``dropout`` falls on the softmax.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.matmul(query, key.mT, preferred_element_type=wide) * scale  # (…, queries, keys)
    scores = jnp.where(attn_mask, scores, -jnp.inf) if attn_mask.dtype == bool else scores + attn_mask
    return dropout(safe_softmax(scores, -1).astype(value.dtype)) @ value


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
        return (self.bias[...] + x.reshape(-1, self.nx) @ self.weight[...]).reshape(*x.shape[:2], self.nf)


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

    def __call__(self, hidden_states: Array, attention_mask: Array) -> Array:
        query_states, key_states, value_states = jnp.array_split(self.c_attn(hidden_states), 3, axis=2)
        key_states = jnp.swapaxes(key_states.reshape(*key_states.shape[:2], 12, 64), 1, 2)
        value_states = jnp.swapaxes(value_states.reshape(*value_states.shape[:2], 12, 64), 1, 2)
        query_states = jnp.swapaxes(query_states.reshape(*query_states.shape[:2], 12, 64), 1, 2)
        x = scaled_dot_product_attention(
            query_states, key_states, value_states, attention_mask, scale=0.125, dropout=self.attn_dropout
        )
        x = jnp.swapaxes(x, 1, 2)  # (batch, length, 12, 64)
        return self.resid_dropout(self.c_proj(x.reshape(*x.shape[:2], 768)))


class GPT2MLP(nnx.Module):
    """GPT2MLP (transformers/models/gpt2/modeling_gpt2.py, line 229)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.c_fc = Conv1D(3072, 768)
        self.c_proj = Conv1D(768, 3072)
        self.act = NewGELUActivation()
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, hidden_states: Array) -> Array:
        return self.dropout(self.c_proj(self.act(self.c_fc(hidden_states))))


class GPT2Block(nnx.Module):
    """GPT2Block (transformers/models/gpt2/modeling_gpt2.py, line 246)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.ln_1 = LayerNorm(768)
        self.attn = GPT2Attention(rngs=rngs)
        self.ln_2 = LayerNorm(768)
        self.mlp = GPT2MLP(rngs=rngs)

    def __call__(self, hidden_states: Array, attention_mask: Array) -> Array:
        hidden_states_2 = self.ln_1(hidden_states)
        hidden_states = self.attn(hidden_states_2, attention_mask) + hidden_states
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
        position_ids = jnp.arange(input_ids.shape[1], dtype=int)[None]  # (1, length)
        position_embeds = self.wpe(position_ids)  # (1, length, 768)
        x = jnp.arange(input_ids.shape[1], dtype=int)[None, None, None]  # (1, 1, 1, length)
        x_2 = jnp.arange(input_ids.shape[0], dtype=int)[:, None, None, None]  # (batch, 1, 1, 1)
        x_3 = x <= jnp.arange(input_ids.shape[1], dtype=int)[None, None, :, None]  # (1, 1, length, length)
        causal_mask = x_3 & attention_mask.astype(bool)[x_2, x]  # (batch, 1, length, length)
        hidden_states = self.drop(inputs_embeds + position_embeds)  # (batch, length, 768)
        for block in self.h:
            hidden_states = block(hidden_states, causal_mask)
        return self.ln_f(hidden_states)


class GPT2LMHeadModel(nnx.Module):
    """GPT2LMHeadModel (transformers/models/gpt2/modeling_gpt2.py, line 628)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.transformer = GPT2Model(rngs=rngs)
        self.lm_head = Linear()

    def __call__(self, input_ids: Array, attention_mask: Array) -> dict[str, Array]:
        assert input_ids.shape[0] == attention_mask.shape[0]
        assert attention_mask.shape[1] == input_ids.shape[1]
        transformer_outputs = self.transformer(input_ids, attention_mask)  # (batch, length, 768)
        return {'logits': self.lm_head(transformer_outputs, self.transformer.wte.weight[...])}


def build() -> GPT2LMHeadModel:
    """The model with all weights zero, in eval mode."""
    model = GPT2LMHeadModel(rngs=nnx.Rngs(0))
    model.eval()
    return model


def load(path: str | Path) -> GPT2LMHeadModel:
    """The model with the weights of a safetensors file, in their dtype."""
    model, weights = build(), load_file(path)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    for names, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(weights[".".join(map(str, names))]))
    nnx.update(model, state)
    return model
