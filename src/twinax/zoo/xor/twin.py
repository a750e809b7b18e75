"""Twins ``xor`` (2 → 8 → 1) and ``xor/logistic`` (2 → 1): the same data, learnable and not."""

from __future__ import annotations

import math

import numpy as np

from twinax.data import points
from twinax.records import Size
from twinax.twin import Arrays, Config, Twin


def init(config: Config, seed: int) -> Arrays:
    """Weights uniform in ±√(6 / (in + out)) (Glorot & Bengio, 2010), biases zero."""
    rng = np.random.default_rng(seed)
    hidden = int(config["hidden"])
    layers = {"hidden": (hidden, 2), "output": (1, hidden)} if hidden else {"output": (1, 2)}
    weights: Arrays = {}
    for layer, (outputs, inputs) in layers.items():
        bound = math.sqrt(6 / (inputs + outputs))
        weights[f"{layer}.weight"] = rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
        weights[f"{layer}.bias"] = np.zeros(outputs, dtype=np.float32)
    return weights


def batches(config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
    """The four points, in an order drawn anew for every batch but the first."""
    return points.batches(size.batch, seed, count)


_SIDES = {"torch": "twinax.zoo.xor.torch_model", "jax": "twinax.zoo.xor.jax_model"}
_PRESETS = {preset: Size(batch=4) for preset in ("parity", "parity_quick", "speed", "speed_quick")}
_RULE = {"optimizer": "sgd", "learning_rate": 0.5, "momentum": 0.9, "steps": 1000}

TWINS = (
    Twin(
        name="xor",
        title="Exclusive or: a network of 8 hidden units that learns it",
        sides=_SIDES,
        config={"hidden": 8},
        init=init,
        batches=batches,
        inputs=("points",),
        presets=_PRESETS,
        target={
            **_RULE,
            "loss_at_most": 0.02,
            "accuracy": 1.0,
            "claim": "A hidden layer learns exclusive or: the loss falls to 0.02 and all 4 points are right.",
        },
    ),
    Twin(
        name="xor/logistic",
        title="Exclusive or: logistic regression, which cannot learn it",
        sides=_SIDES,
        config={"hidden": 0},
        init=init,
        batches=batches,
        inputs=("points",),
        presets=_PRESETS,
        target={
            **_RULE,
            "loss_near": round(math.log(2), 6),
            "claim": "No line separates exclusive or: the loss ends at ln 2 = 0.693147, predictions at 0.5.",
        },
    ),
)
