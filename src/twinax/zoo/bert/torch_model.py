"""BERT in PyTorch, with Hugging Face's parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


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


def gelu(x: Tensor) -> Tensor:
    """x · Φ(x), with Φ the normal distribution function (Hendrycks & Gimpel, arXiv:1606.08415)."""
    return functional.gelu(x)


def gelu_new(x: Tensor) -> Tensor:
    """The same with Φ approximated by a tanh."""
    return functional.gelu(x, approximate="tanh")


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_new, "relu": torch.relu}


class BertEmbeddings(nn.Module):
    """Word, position and segment embeddings, added and normalised."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        # both (batch, sequence)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        x = x + self.position_embeddings(positions)  # (batch, sequence, hidden)
        return self.dropout(self.LayerNorm(x))


class BertSelfAttention(nn.Module):
    """Every token looks at every token that is not padding."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        # x: (batch, sequence, hidden); mask: (batch, 1, 1, sequence)
        batch, sequence, hidden = x.shape
        split = (batch, sequence, self.heads, hidden // self.heads)
        q = self.query(x).reshape(split).transpose(1, 2)  # (batch, heads, sequence, hidden / heads)
        k = self.key(x).reshape(split).transpose(1, 2)
        v = self.value(x).reshape(split).transpose(1, 2)
        scores = q @ k.transpose(2, 3) * (hidden // self.heads) ** -0.5  # (batch, heads, sequence, sequence)
        weights = self.dropout(torch.softmax(scores + mask, dim=-1))
        return (weights @ v).transpose(1, 2).reshape(x.shape)  # (batch, sequence, hidden)


class BertSelfOutput(nn.Module):
    """Mixes the heads; adds the input and normalises."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class BertAttention(nn.Module):
    """Self-attention with its residual connection."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = BertSelfOutput(config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(x, mask), x)


class BertIntermediate(nn.Module):
    """The wide half of the feed-forward network."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))  # (batch, sequence, intermediate)


class BertOutput(nn.Module):
    """The narrow half; adds the input and normalises."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class BertLayer(nn.Module):
    """Attention, then the feed-forward network."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class BertEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList([BertLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class BertPooler(nn.Module):
    """One vector per sequence, from its first token."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.dense(x[:, 0]))  # (batch, hidden)


class BertModel(nn.Module):
    """Tokens in; a vector per token and one per sequence out."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> dict[str, Tensor]:
        # all (batch, sequence)
        x = self.embeddings(input_ids, token_type_ids)  # (batch, sequence, hidden)
        # added to the scores: 0 where there is a token; where there is padding, the lowest number
        padding = (1 - attention_mask)[:, None, None, :].to(x.dtype)  # (batch, 1, 1, sequence)
        x = self.encoder(x, padding * torch.finfo(x.dtype).min)
        return {"last_hidden_state": x, "pooler_output": self.pooler(x)}


class BertForSequenceClassification(nn.Module):
    """One label per sequence."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.bert = BertModel(config)
        rate = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if rate is None else rate)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        pooled = self.bert(input_ids, attention_mask, token_type_ids)["pooler_output"]  # (batch, hidden)
        return self.classifier(self.dropout(pooled))  # (batch, labels)


def loss(outputs: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Classifier: mean cross-entropy. Encoder: mean squared distance of both outputs to random targets.

    The plain mean square of an encoder's outputs would say nothing, since LayerNorm fixes it.
    """
    if "labels" in batch:
        log_p = torch.log_softmax(outputs, dim=-1)  # (batch, labels)
        return -log_p.gather(1, batch["labels"][:, None]).mean()
    tokens = torch.square(outputs["last_hidden_state"] - batch["targets"]).mean()
    pooled = torch.square(outputs["pooler_output"] - batch["targets"][:, 0]).mean()
    return tokens + pooled


def build(config: Mapping[str, Any]) -> nn.Module:
    """The classifier, or the encoder where there are no labels, with torch's own initial weights."""
    c = Config(**{field.name: config[field.name] for field in fields(Config)})
    return BertForSequenceClassification(c) if c.num_labels else BertModel(c)
