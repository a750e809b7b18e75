"""Training of a twin that has a solver: program ``fit``, from all training examples to the weights at once."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from twinax.frameworks.base import Runner
from twinax.frameworks.make import fit, make_runner
from twinax.records import Cell, Json
from twinax.train import checkpoint
from twinax.train.checkpoint import Checkpoint
from twinax.train.evaluating import scores_of
from twinax.train.events import Events
from twinax.train.goal import met
from twinax.train.setting import Setting
from twinax.twin import Arrays, Twin


class Solve:
    """One fit; a checkpoint is written when it is found, and taken where it is there already."""

    def __init__(self, cell: Cell, setting: Setting, start: Checkpoint | None) -> None:
        self.cell, self.setting = cell, setting
        self.best_weights: Arrays = start.weights if start else {}
        self.seconds = start.facts.seconds if start else 0.0
        self.side = start.facts.side if start else cell.side
        self.losses: list[float] = []
        self.valid: list[dict[str, Json]] = []

    @property
    def done(self) -> bool:
        """Whether the weights are there."""
        return bool(self.best_weights)

    step = property(lambda self: int(self.done))
    steps = 1

    def advance(self, seconds: float) -> None:
        """Solve; it cannot be stopped in the middle."""
        if self.done:
            return
        setting = self.setting
        examples = setting.dataset.train
        batch = examples.take(np.arange(len(examples)), 0)
        begin = time.perf_counter()
        self.best_weights = fit(self.cell, setting.twin, batch)
        self.seconds = time.perf_counter() - begin
        twin = with_sizes(setting.twin, self.best_weights)
        facts = setting.facts.model_copy(
            update={
                "config": dict(twin.config),
                "step": 1,
                "steps": 1,
                "seconds": self.seconds,
                "sides": ((self.cell.side, 0, 1),),
            }
        )
        checkpoint.write(
            setting.checkpoints, Checkpoint(facts, self.best_weights, {}, self.best_weights, {}), setting.keep
        )

    def finish(self) -> dict[str, Json]:
        """The weights on the examples of validation and test."""
        runner = self._runner()
        valid, test = (
            scores_of(runner, self.setting.task, self.setting.dataset, split) for split in ("valid", "test")
        )
        events = Events(self.setting.events, 1)
        events.scalars(1, {f"test/{name}": value for name, value in test.items()})
        events.histograms(1, "weights", self.best_weights)
        events.close()
        reached = met(self.setting.task.goal, valid)
        return {
            "step": 1,
            "steps": 1,
            "epochs": 1,
            "seconds": self.seconds,
            "goal_s": self.seconds if reached else None,
            "sides": [(self.side, 0, 1)],
            "valid": [{"step": 1, "seconds": self.seconds, **valid}],
            "best": (valid[self.setting.task.metric], 1),
            "test": test,
            "loss_steps": [],
            "losses": [],
        }

    def _runner(self) -> Runner:
        return make_runner(self.cell, with_sizes(self.setting.twin, self.best_weights), self.best_weights)


def with_sizes(twin: Twin, weights: Arrays) -> Twin:
    """The twin with the sizes that fitted weights have."""
    return replace(twin, config=twin.fitted(twin.config, weights)) if twin.fitted else twin
