"""Exclusive or in PyTorch: a network with one hidden layer, and logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """``hidden``: units of the hidden layer; 0 leaves the layer out."""

    hidden: int


class Perceptron(nn.Module):
    """2 → hidden → 1."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, config.hidden)
        self.output = nn.Linear(config.hidden, 1)

    def forward(self, points: Tensor) -> dict[str, Tensor]:
        x = torch.tanh(self.hidden(points))  # (batch, 2) -> (batch, hidden)
        logits = self.output(x)  # (batch, 1)
        return {"logits": logits, "probability": torch.sigmoid(logits)}


class LogisticRegression(nn.Module):
    """2 → 1: a straight line."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(2, 1)

    def forward(self, points: Tensor) -> dict[str, Tensor]:
        logits = self.output(points)  # (batch, 2) -> (batch, 1)
        return {"logits": logits, "probability": torch.sigmoid(logits)}


def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean binary cross-entropy, −y log p − (1 − y) log(1 − p).

    Of the logits z rather than of p = sigmoid(z): log(1 + e^z) − z y is the same number, stays finite
    where p rounds to 0 or 1, and has no kink at z = 0, where logistic regression ends.
    """
    z, y = outputs["logits"], batch["labels"]
    return torch.mean(torch.logaddexp(z, torch.zeros_like(z)) - z * y)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The network that the configuration describes, with torch's own initial weights."""
    c = Config(**config)
    return Perceptron(c) if c.hidden else LogisticRegression()
