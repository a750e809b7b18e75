"""Exclusive or in JAX (Flax NNX): a network with one hidden layer, and logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


@dataclass(frozen=True)
class Config:
    """``hidden``: units of the hidden layer; 0 leaves the layer out."""

    hidden: int


class Perceptron(nnx.Module):
    """2 → hidden → 1."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(2, config.hidden, rngs=rngs)
        self.output = nnx.Linear(config.hidden, 1, rngs=rngs)

    def __call__(self, points: Array) -> dict[str, Array]:
        x = jnp.tanh(self.hidden(points))  # (batch, 2) -> (batch, hidden)
        logits = self.output(x)  # (batch, 1)
        return {"logits": logits, "probability": jax.nn.sigmoid(logits)}


class LogisticRegression(nnx.Module):
    """2 → 1: a straight line."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.output = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, points: Array) -> dict[str, Array]:
        logits = self.output(points)  # (batch, 2) -> (batch, 1)
        return {"logits": logits, "probability": jax.nn.sigmoid(logits)}


def loss(outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> Array:
    """Mean binary cross-entropy, −y log p − (1 − y) log(1 − p).

    Of the logits z rather than of p = sigmoid(z): log(1 + e^z) − z y is the same number, stays finite
    where p rounds to 0 or 1, and has no kink at z = 0, where logistic regression ends.
    """
    z, y = outputs["logits"], batch["labels"]
    return jnp.mean(jnp.logaddexp(z, 0) - z * y)


def build(config: Mapping[str, Any]) -> nnx.Module:
    """The network that the configuration describes, with Flax's own initial weights."""
    c = Config(**config)
    return Perceptron(c, rngs=nnx.Rngs(0)) if c.hidden else LogisticRegression(rngs=nnx.Rngs(0))
