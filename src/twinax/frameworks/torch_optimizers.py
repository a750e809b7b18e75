"""Update rules in torch.optim, and what their state is called."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from twinax.frameworks.base import Optimizer

_MOMENTS = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
STATE_KEYS = {"sgd": {"momentum": "momentum_buffer"}, "adam": _MOMENTS, "adamw": _MOMENTS}
"""Optimizer → our name of each of its slots → torch's."""


def make_optimizer(rule: Optimizer, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The update rule in torch.optim."""
    if rule.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=rule.learning_rate, momentum=rule.momentum, weight_decay=rule.weight_decay
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[rule.name]
    return kind(
        parameters, lr=rule.learning_rate, betas=rule.betas, eps=rule.eps, weight_decay=rule.weight_decay
    )
