"""BertModel in JAX (Flax NNX).

Ported from PyTorch by twinax, whose parameters keep PyTorch's names and layouts. ``model.train()`` and
``model.eval()`` switch dropout and batch statistics, which the model updates in its own variables.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from safetensors.numpy import load_file


def layer_norm(input: Array, normalized_shape: list[int], weight: Array, bias: Array, eps: float) -> Array:
    """(x − mean) / √(variance + eps) · weight + bias, over the last dimensions."""
    axes = tuple(range(-len(normalized_shape), 0))
    x = input.astype(jnp.promote_types(input.dtype, jnp.float32))
    x = x - x.mean(axes, keepdims=True)
    y = x * lax.rsqrt(jnp.square(x).mean(axes, keepdims=True) + eps) * weight + bias
    return y.astype(input.dtype)


def padded_embedding(weight: Array, indices: Array, padding_idx: int) -> Array:
    """Rows of ``weight``, of which row ``padding_idx`` gets no gradient."""
    rows = weight[indices]
    return jnp.where((indices == padding_idx)[..., None], lax.stop_gradient(rows), rows)


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

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int) -> None:
        self.padding_idx = padding_idx
        self.weight = nnx.Param(jnp.zeros((num_embeddings, embedding_dim)))

    def __call__(self, x: Array) -> Array:
        return self.weight[...][x] if self.padding_idx < 0 else padded_embedding(
            self.weight[...], x, self.padding_idx
        )


class LayerNorm(nnx.Module):
    """torch.nn.LayerNorm."""

    def __init__(self, normalized_shape: int) -> None:
        self.normalized_shape = normalized_shape
        self.weight = nnx.Param(jnp.zeros((normalized_shape,)))
        self.bias = nnx.Param(jnp.zeros((normalized_shape,)))

    def __call__(self, x: Array) -> Array:
        return layer_norm(x, (self.normalized_shape,), self.weight[...], self.bias[...], eps=1e-12)


class Linear(nnx.Module):
    """torch.nn.Linear."""

    def __init__(self, in_features: int, out_features: int) -> None:
        self.weight = nnx.Param(jnp.zeros((out_features, in_features)))
        self.bias = nnx.Param(jnp.zeros((out_features,)))

    def __call__(self, x: Array) -> Array:
        return x @ self.weight[...].T + self.bias[...]


class BertEmbeddings(nnx.Module):
    """BertEmbeddings (transformers/models/bert/modeling_bert.py, line 53)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.word_embeddings = Embedding(30522, 768, 0)
        self.position_embeddings = Embedding(512, 768, -1)
        self.token_type_embeddings = Embedding(2, 768, -1)
        self.LayerNorm = LayerNorm(768)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, input_ids: Array, token_type_ids: Array) -> Array:
        position_ids = jnp.arange(512)[None, :input_ids.shape[1]]  # (1, length)
        inputs_embeds = self.word_embeddings(input_ids)  # (batch, length, 768)
        token_type_embeddings = self.token_type_embeddings(token_type_ids)
        position_embeddings = self.position_embeddings(position_ids)  # (1, length, 768)
        return self.dropout(self.LayerNorm(inputs_embeds + token_type_embeddings + position_embeddings))


class BertSelfAttention(nnx.Module):
    """BertSelfAttention (transformers/models/bert/modeling_bert.py, line 139)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.query = Linear(768, 768)
        self.key = Linear(768, 768)
        self.value = Linear(768, 768)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, hidden_states: Array, attention_mask: Array) -> Array:
        x = self.query(hidden_states)
        query_layer = jnp.swapaxes(x.reshape(*x.shape[:2], 12, 64), 1, 2)  # (batch, 12, length, 64)
        x = self.key(hidden_states)  # (batch, length, 768)
        key_layer = jnp.swapaxes(x.reshape(*x.shape[:2], 12, 64), 1, 2)  # (batch, 12, length, 64)
        hidden_states = self.value(hidden_states)  # (batch, length, 768)
        value_layer = jnp.swapaxes(hidden_states.reshape(*hidden_states.shape[:2], 12, 64), 1, 2)
        y = scaled_dot_product_attention(
            query_layer, key_layer, value_layer, attention_mask, scale=0.125, dropout=self.dropout
        )
        y = jnp.swapaxes(y, 1, 2)  # (batch, length, 12, 64)
        return y.reshape(*y.shape[:2], 768)


class BertSelfOutput(nnx.Module):
    """BertSelfOutput (transformers/models/bert/modeling_bert.py, line 282)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.dense = Linear(768, 768)
        self.LayerNorm = LayerNorm(768)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, hidden_states: Array, input_tensor: Array) -> Array:
        hidden_states = self.dropout(self.dense(hidden_states))
        return self.LayerNorm(hidden_states + input_tensor)


class BertIntermediate(nnx.Module):
    """BertIntermediate (transformers/models/bert/modeling_bert.py, line 325)."""

    def __init__(self) -> None:
        self.dense = Linear(768, 3072)

    def __call__(self, hidden_states: Array) -> Array:
        return jax.nn.gelu(self.dense(hidden_states), approximate=False)


class BertOutput(nnx.Module):
    """BertOutput (transformers/models/bert/modeling_bert.py, line 340)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.dense = Linear(3072, 768)
        self.LayerNorm = LayerNorm(768)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, hidden_states: Array, input_tensor: Array) -> Array:
        hidden_states = self.dropout(self.dense(hidden_states))  # (batch, length, 768)
        return self.LayerNorm(hidden_states + input_tensor)


class BertPooler(nnx.Module):
    """BertPooler (transformers/models/bert/modeling_bert.py, line 451)."""

    def __init__(self) -> None:
        self.dense = Linear(768, 768)

    def __call__(self, hidden_states: Array) -> Array:
        first_token_tensor = hidden_states[:, 0]  # (batch, 768)
        return jnp.tanh(self.dense(first_token_tensor))


class BertAttention(nnx.Module):
    """BertAttention (transformers/models/bert/modeling_bert.py, line 296)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.self = BertSelfAttention(rngs=rngs)
        self.output = BertSelfOutput(rngs=rngs)

    def __call__(self, hidden_states: Array, attention_mask: Array) -> Array:
        return self.output(self.self(hidden_states, attention_mask), hidden_states)


class BertLayer(nnx.Module):
    """BertLayer (transformers/models/bert/modeling_bert.py, line 354)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.attention = BertAttention(rngs=rngs)
        self.intermediate = BertIntermediate()
        self.output = BertOutput(rngs=rngs)

    def __call__(self, hidden_states: Array, attention_mask: Array) -> Array:
        hidden_states = self.attention(hidden_states, attention_mask)
        return self.output(self.intermediate(hidden_states), hidden_states)


class BertEncoder(nnx.Module):
    """BertEncoder (transformers/models/bert/modeling_bert.py, line 419)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.layer = nnx.List([BertLayer(rngs=rngs) for _ in range(12)])

    def __call__(self, hidden_states: Array, attention_mask: Array) -> Array:
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask)
        return hidden_states


class BertModel(nnx.Module):
    """BertModel (transformers/models/bert/modeling_bert.py, line 582)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.embeddings = BertEmbeddings(rngs=rngs)
        self.encoder = BertEncoder(rngs=rngs)
        self.pooler = BertPooler()

    def __call__(self, input_ids: Array, attention_mask: Array, token_type_ids: Array) -> dict[str, Array]:
        assert input_ids.shape[1] == token_type_ids.shape[1]
        assert input_ids.shape[0] == token_type_ids.shape[0]
        assert attention_mask.shape[1] == token_type_ids.shape[1]
        assert input_ids.shape[1] <= 512
        embedding_output = self.embeddings(input_ids, token_type_ids)  # (batch, length, 768)
        x = jnp.arange(input_ids.shape[0], dtype=int)[:, None, None, None]  # (batch, 1, 1, 1)
        x = attention_mask.astype(bool)[x, jnp.arange(input_ids.shape[1], dtype=int)[None, None, None]]
        x = (jnp.arange(input_ids.shape[1], dtype=int)[None, None, :, None] >= 0) & x
        encoder_outputs = self.encoder(embedding_output, x)  # (batch, length, 768)
        return {'last_hidden_state': encoder_outputs, 'pooler_output': self.pooler(encoder_outputs)}


def build() -> BertModel:
    """The model with all weights zero, in eval mode."""
    model = BertModel(rngs=nnx.Rngs(0))
    model.eval()
    return model


def load(path: str | Path) -> BertModel:
    """The model with the weights of a safetensors file, in their dtype."""
    model, weights = build(), load_file(path)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    for names, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(weights[".".join(map(str, names))]))
    nnx.update(model, state)
    return model
