"""The model on all examples of a split: outputs, loss, scores."""

from __future__ import annotations

import numpy as np

from twinax.frameworks.base import Runner
from twinax.train.setting import Setting
from twinax.twin import Arrays, Examples

BATCH = 256  # examples at a time


def outputs_of(runner: Runner, examples: Examples) -> tuple[Arrays, float]:
    """Outputs over all examples, in eval mode, and the mean loss."""
    parts: list[Arrays] = []
    total = 0.0
    for start in range(0, len(examples), BATCH):
        rows = np.arange(start, min(start + BATCH, len(examples)))
        found = runner.evaluate(examples.take(rows, 0), train=False, gradients=False)
        parts.append(found.outputs)
        total += found.loss * len(rows)
    return joined(parts), total / len(examples)


def joined(parts: list[Arrays]) -> Arrays:
    """Outputs of several batches, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def scores_of(runner: Runner, setting: Setting, split: str) -> tuple[dict[str, float], Arrays]:
    """The split's scores, the loss among them, and its outputs."""
    examples: Examples = getattr(setting.dataset, split)
    outputs, loss = outputs_of(runner, examples)
    aside = setting.dataset.aside.get(split, {})
    scores = setting.task.scores(setting.dataset.preparation, aside, outputs)
    return {"loss": loss, **{name: float(value) for name, value in scores.items()}}, outputs
