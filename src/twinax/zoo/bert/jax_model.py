"""BERT in JAX (Flax NNX), with Hugging Face's module names."""

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
    """The entries of Hugging Face's ``config.json``; ``num_labels`` 0 leaves the classifier out."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    classifier_dropout: float | None  # None: as hidden_dropout_prob
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    num_labels: int


def gelu(x: Array) -> Array:
    """x · Φ(x), with Φ the normal distribution function (Hendrycks & Gimpel, arXiv:1606.08415)."""
    return jax.nn.gelu(x, approximate=False)


def gelu_new(x: Array) -> Array:
    """The same with Φ approximated by a tanh."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_new, "relu": jax.nn.relu}

# Weights start at zero since they are always put in place from outside: drawing 110 million of them
# takes seconds.
ZEROS = nnx.initializers.zeros_init()


def linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    """x W + b."""
    return nnx.Linear(inputs, outputs, kernel_init=ZEROS, rngs=rngs)


class Embed(nnx.Module):
    """A row for each entry. ``nnx.Embed`` keeps the dtype that it was built with; this takes the weights'."""

    def __init__(self, entries: int, features: int) -> None:
        self.embedding = nnx.Param(jnp.zeros((entries, features)))

    def __call__(self, ids: Array) -> Array:
        return self.embedding[...][ids]  # (…,) -> (…, features)


def layer_norm(config: Config, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Ba et al., arXiv:1607.06450. Flax's fast variance, E[x²] − E[x]², would lose half of the digits."""
    return nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, use_fast_variance=False, rngs=rngs)


class BertEmbeddings(nnx.Module):
    """Word, position and segment embeddings, added and normalised."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.word_embeddings = Embed(config.vocab_size, config.hidden_size)
        self.position_embeddings = Embed(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = Embed(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = layer_norm(config, rngs)
        self.dropout = nnx.Dropout(config.hidden_dropout_prob, rngs=rngs)

    def __call__(self, input_ids: Array, token_type_ids: Array) -> Array:
        # both (batch, sequence)
        positions = jnp.arange(input_ids.shape[1])
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings(positions)  # (batch, sequence, hidden)
        return self.dropout(self.LayerNorm(x))


class BertSelfAttention(nnx.Module):
    """Every token looks at every token that is not padding."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.heads = config.num_attention_heads
        self.query = linear(config.hidden_size, config.hidden_size, rngs)
        self.key = linear(config.hidden_size, config.hidden_size, rngs)
        self.value = linear(config.hidden_size, config.hidden_size, rngs)
        self.dropout = nnx.Dropout(config.attention_probs_dropout_prob, rngs=rngs)

    def __call__(self, x: Array, mask: Array) -> Array:
        # x: (batch, sequence, hidden); mask: (batch, 1, 1, sequence)
        batch, sequence, hidden = x.shape
        split = (batch, sequence, self.heads, hidden // self.heads)
        q = self.query(x).reshape(split).swapaxes(1, 2)  # (batch, heads, sequence, hidden / heads)
        k = self.key(x).reshape(split).swapaxes(1, 2)
        v = self.value(x).reshape(split).swapaxes(1, 2)
        scores = q @ k.swapaxes(2, 3) * (hidden // self.heads) ** -0.5  # (batch, heads, sequence, sequence)
        weights = self.dropout(jax.nn.softmax(scores + mask, axis=-1))
        return (weights @ v).swapaxes(1, 2).reshape(x.shape)  # (batch, sequence, hidden)


class BertSelfOutput(nnx.Module):
    """Mixes the heads; adds the input and normalises."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.dense = linear(config.hidden_size, config.hidden_size, rngs)
        self.LayerNorm = layer_norm(config, rngs)
        self.dropout = nnx.Dropout(config.hidden_dropout_prob, rngs=rngs)

    def __call__(self, x: Array, residual: Array) -> Array:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class BertAttention(nnx.Module):
    """Self-attention with its residual connection."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.self = BertSelfAttention(config, rngs=rngs)
        self.output = BertSelfOutput(config, rngs=rngs)

    def __call__(self, x: Array, mask: Array) -> Array:
        return self.output(self.self(x, mask), x)


class BertIntermediate(nnx.Module):
    """The wide half of the feed-forward network."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.dense = linear(config.hidden_size, config.intermediate_size, rngs)
        self.activation = ACTIVATIONS[config.hidden_act]

    def __call__(self, x: Array) -> Array:
        return self.activation(self.dense(x))  # (batch, sequence, intermediate)


class BertOutput(nnx.Module):
    """The narrow half; adds the input and normalises."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.dense = linear(config.intermediate_size, config.hidden_size, rngs)
        self.LayerNorm = layer_norm(config, rngs)
        self.dropout = nnx.Dropout(config.hidden_dropout_prob, rngs=rngs)

    def __call__(self, x: Array, residual: Array) -> Array:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class BertLayer(nnx.Module):
    """Attention, then the feed-forward network."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.attention = BertAttention(config, rngs=rngs)
        self.intermediate = BertIntermediate(config, rngs=rngs)
        self.output = BertOutput(config, rngs=rngs)

    def __call__(self, x: Array, mask: Array) -> Array:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class BertEncoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.layer = nnx.List([BertLayer(config, rngs=rngs) for _ in range(config.num_hidden_layers)])

    def __call__(self, x: Array, mask: Array) -> Array:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class BertPooler(nnx.Module):
    """One vector per sequence, from its first token."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.dense = linear(config.hidden_size, config.hidden_size, rngs)

    def __call__(self, x: Array) -> Array:
        return jnp.tanh(self.dense(x[:, 0]))  # (batch, hidden)


class BertModel(nnx.Module):
    """Tokens in; a vector per token and one per sequence out."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.embeddings = BertEmbeddings(config, rngs=rngs)
        self.encoder = BertEncoder(config, rngs=rngs)
        self.pooler = BertPooler(config, rngs=rngs)

    def __call__(self, input_ids: Array, attention_mask: Array, token_type_ids: Array) -> dict[str, Array]:
        # all (batch, sequence)
        x = self.embeddings(input_ids, token_type_ids)  # (batch, sequence, hidden)
        # added to the scores: 0 where there is a token; where there is padding, the lowest number
        padding = (1 - attention_mask)[:, None, None, :].astype(x.dtype)  # (batch, 1, 1, sequence)
        x = self.encoder(x, padding * jnp.finfo(x.dtype).min)
        return {"last_hidden_state": x, "pooler_output": self.pooler(x)}


class BertForSequenceClassification(nnx.Module):
    """One label per sequence."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.bert = BertModel(config, rngs=rngs)
        rate = config.classifier_dropout
        self.dropout = nnx.Dropout(config.hidden_dropout_prob if rate is None else rate, rngs=rngs)
        self.classifier = linear(config.hidden_size, config.num_labels, rngs)

    def __call__(self, input_ids: Array, attention_mask: Array, token_type_ids: Array) -> Array:
        pooled = self.bert(input_ids, attention_mask, token_type_ids)["pooler_output"]  # (batch, hidden)
        return self.classifier(self.dropout(pooled))  # (batch, labels)


def loss(outputs: Any, batch: Mapping[str, Array]) -> Array:
    """Classifier: mean cross-entropy. Encoder: mean squared distance of both outputs to random targets.

    The plain mean square of an encoder's outputs would say nothing, since LayerNorm fixes it.
    """
    if "labels" in batch:
        log_p = jax.nn.log_softmax(outputs, axis=-1)  # (batch, labels)
        return -jnp.take_along_axis(log_p, batch["labels"][:, None], axis=1).mean()
    tokens = jnp.square(outputs["last_hidden_state"] - batch["targets"]).mean()
    pooled = jnp.square(outputs["pooler_output"] - batch["targets"][:, 0]).mean()
    return tokens + pooled


def build(config: Mapping[str, Any]) -> nnx.Module:
    """The classifier, or the encoder where there are no labels, with weights still to be put in place."""
    c = Config(**{field.name: config[field.name] for field in fields(Config)})
    rngs = nnx.Rngs(0)
    return BertForSequenceClassification(c, rngs=rngs) if c.num_labels else BertModel(c, rngs=rngs)
