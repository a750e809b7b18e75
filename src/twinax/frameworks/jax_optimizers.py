"""Update rules in Optax, and what their state is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from twinax.frameworks.base import Optimizer
from twinax.frameworks.jax_models import Tree

_MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu"}
STATE_KEYS = {"sgd": {"momentum": "trace"}, "adam": _MOMENTS, "adamw": _MOMENTS}
"""Optimizer → our name of each of its slots → Optax's."""


def make_transform(rule: Optimizer) -> optax.GradientTransformation:
    """The update rule in Optax."""
    if rule.name == "sgd":
        step = optax.sgd(rule.learning_rate, momentum=rule.momentum)
    elif rule.name == "adam":
        step = optax.adam(rule.learning_rate, *rule.betas, eps=rule.eps)
    else:
        return optax.adamw(rule.learning_rate, *rule.betas, eps=rule.eps, weight_decay=rule.weight_decay)
    return optax.chain(optax.add_decayed_weights(rule.weight_decay), step) if rule.weight_decay else step


def make_update(transform: optax.GradientTransformation) -> Callable[..., Any]:
    """``update(gradients, optimizer state, params) -> params, optimizer state``."""

    def update(grads: Tree, opt_state: Tree, params: Tree) -> Any:
        updates, opt_state = transform.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return update
