"""The model on all examples of a split: outputs, loss, scores."""

from __future__ import annotations

import numpy as np

from twinax.frameworks.base import Runner
from twinax.twin import Arrays, Dataset, Examples, Task

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


def scores_of(runner: Runner, task: Task, dataset: Dataset, split: str) -> dict[str, float]:
    """The scores of ``valid`` or ``test``, the loss among them."""
    outputs, loss = outputs_of(runner, getattr(dataset, split))
    scores = task.scores(dataset.preparation, dataset.aside.get(split, {}), outputs)
    return {"loss": loss, **{name: float(value) for name, value in scores.items()}}
