"""What the training study does inside its workers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from twinax.frameworks.base import Optimizer
from twinax.records import Json
from twinax.studies.base import Context, Verb

KEPT = 200  # points of the loss curve that are kept


def train(context: Context) -> dict[str, Json]:
    """Train on the twin's own data from its NumPy-made weights, and hold the result against the target."""
    assert context.runner is not None and context.twin is not None
    twin, target = context.twin, context.twin.target
    steps = int(target["steps"])
    rule = Optimizer(target["optimizer"], target["learning_rate"], momentum=target.get("momentum", 0.0))
    context.runner.load(context.weights, rule)
    (batch,) = twin.batches(twin.config, context.cell.size, context.options.seed, 1)
    losses = [context.runner.evaluate(batch, train=True, step=True).loss for _ in range(steps)]
    last = context.runner.evaluate(batch, train=False, gradients=False)
    probability = last.outputs["probability"].ravel()
    accuracy = float(np.mean((probability > 0.5) == (batch["labels"].ravel() > 0.5)))
    kept = sorted({*range(0, steps, max(1, steps // KEPT)), steps - 1})
    return {
        "steps": steps,
        "loss_steps": kept,
        "losses": [losses[i] for i in kept],
        "final_loss": last.loss,
        "accuracy": accuracy,
        "predictions": probability.tolist(),
        "met": met(target, last.loss, accuracy),
        "claim": target["claim"],
    }


def met(target: Mapping[str, Json], loss: float, accuracy: float) -> bool:
    """Whether a result reaches the target; NaN reaches none."""
    near = target.get("loss_near")
    return (
        loss <= target.get("loss_at_most", float("inf"))
        and accuracy >= target.get("accuracy", 0.0)
        and (near is None or abs(loss - near) < 1e-3)
    )


VERBS: Mapping[str, Verb] = {"train": train}
