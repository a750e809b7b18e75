"""The training loop: the same for both frameworks, since only a step is theirs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from twinax.errors import BadInput
from twinax.frameworks.base import Optimizer, Runner
from twinax.frameworks.training import Pending
from twinax.records import Json, Recipe
from twinax.train import checkpoint, pictures
from twinax.train.checkpoint import Checkpoint
from twinax.train.evaluating import scores_of
from twinax.train.events import Events
from twinax.train.goal import met
from twinax.train.order import Order
from twinax.train.recipe import learning_rate
from twinax.train.setting import Setting
from twinax.twin import Arrays

POINTS = 500  # of a curve in the event file
SMALLER = (
    "Give a smaller --set learning_rate=…, or bound the gradients with --set clip=1. "
    "Checkpoints that were written before are intact."
)
IN_FLIGHT = 2  # steps that may be under way before the loss of the first is read


class Loop:
    """One training, from its start or from a checkpoint, on the side of its runner."""

    def __init__(self, runner: Runner, setting: Setting, start: Checkpoint | None, weights: Arrays) -> None:
        """``weights``: what training starts from where there is no checkpoint."""
        self.runner, self.setting, self.recipe = runner, setting, setting.recipe
        self.order = Order(setting.dataset.train, setting.recipe, setting.facts.seed)
        self.steps = self.order.steps
        part = self.order.parts(0, ())[0]
        self.sites = runner.dropouts(part.batch)
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.valid: list[dict[str, Json]] = []
        self.step, self.seconds, self.waited = 0, 0.0, 0
        self.best: tuple[float, int] | None = None
        self.best_weights: Arrays = {}
        self.sides: list[tuple[str, int, int]] = []
        if start is None:
            runner.load(weights, rule(self.recipe))
        else:
            self._take_up(start)
        self.begun = self.step
        self.training = runner.training(self.recipe.clip)
        self.events = Events(setting.events, self.step)
        self.pending: deque[Pending] = deque()
        self.saved_at = self.seconds
        self.shown = self.step

    def _take_up(self, start: Checkpoint) -> None:
        facts = start.facts
        self.runner.load(start.weights, rule(self.recipe), start.optimizer)
        self.step, self.seconds, self.waited, self.best = facts.step, facts.seconds, facts.waited, facts.best
        self.valid, self.sides = [dict(row) for row in facts.valid], list(facts.sides)
        self.best_weights = start.best
        self.losses, self.norms = start.history["loss"].tolist(), start.history["norm"].tolist()

    @property
    def done(self) -> bool:
        """Whether all steps are made, or the validation score no longer improves."""
        patience = self.recipe.patience
        return self.step >= self.steps or (patience is not None and self.waited >= patience)

    # --- steps ---------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Train for about so long.

        Raises:
            BadInput: The loss is no number any more.
        """
        begin = time.perf_counter()
        before = self.seconds
        while not self.done and time.perf_counter() - begin < seconds:
            self.make_step()
            self.seconds = before + time.perf_counter() - begin
            if self.step % self.order.steps_per_epoch == 0:
                self._end_epoch()
            if self.seconds - self.saved_at >= self.setting.every_s:
                self.save()
        self.wait()
        self.seconds = before + time.perf_counter() - begin
        self._show()
        if self.done:
            self.save()

    def make_step(self) -> None:
        """One step; on return it may still be under way (see :meth:`wait`)."""
        rate = learning_rate(self.recipe, self.step, self.steps)
        self.pending.append(self.training.step(self.order.parts(self.step, self.sites), rate))
        self.step += 1
        self._read(IN_FLIGHT - 1)

    def wait(self) -> None:
        """Wait for the steps that are under way.

        Raises:
            BadInput: The loss is no number any more.
        """
        self._read(0)

    def _read(self, left: int) -> None:
        """Wait for steps until only so many are under way."""
        while len(self.pending) > left:
            loss, norm = self.pending.popleft().read()
            if not math.isfinite(loss):
                raise self._lost(loss)
            self.losses.append(loss)
            self.norms.append(norm)

    def _lost(self, loss: float) -> BadInput:
        step = len(self.losses)
        rate = learning_rate(self.recipe, step, self.steps)
        before = f"; the step before it had {self.losses[-1]:.6g}" if self.losses else ""
        return BadInput(
            f"The loss is {loss} at step {step + 1} of {self.steps} (learning rate {rate:g}){before}.",
            SMALLER,
        )

    # --- epochs --------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        self.wait()
        scores = scores_of(self.runner, self.setting.task, self.setting.dataset, "valid")
        unusable = [name for name in ("loss", self.setting.task.metric) if not math.isfinite(scores[name])]
        if unusable:
            name = unusable[0]
            raise BadInput(
                f"After step {self.step} of {self.steps} the validation {name} is {scores[name]}.", SMALLER
            )
        self.valid.append({"step": self.step, "seconds": self.seconds, **scores})
        score, task = scores[self.setting.task.metric], self.setting.task
        better = self.best is None or (score < self.best[0] if task.better == "lower" else score > self.best[0])
        self.waited = 0 if better else self.waited + 1
        if better:
            self.best = (score, self.step)
            self.best_weights = self.runner.weights()

    def _show(self) -> None:
        """Bring the event files up to the step."""
        every = max(1, self.steps // POINTS)
        for step in range(self.shown + (-self.shown) % every, len(self.losses), every):
            values = {"loss/train": self.losses[step], "gradient_norm": self.norms[step]}
            rate = learning_rate(self.recipe, step, self.steps)
            self.events.scalars(step + 1, {**values, "learning_rate": rate})
        for row in self.valid:
            if row["step"] > self.shown:
                scores = {f"valid/{k}": v for k, v in row.items() if k not in ("step", "seconds")}
                self.events.scalars(row["step"], scores)
        self.shown = self.step

    def _show_weights(self) -> None:
        """Histograms of weights and gradients, and a picture of predictions."""
        valid = self.setting.dataset.valid
        batch = valid.take(np.arange(min(len(valid), 256)), 0)
        found = self.runner.evaluate(batch, train=False)
        self.events.histograms(self.step, "weights", self.runner.weights())
        self.events.histograms(self.step, "gradients", found.gradients)
        for name, picture in pictures.of_predictions(found.outputs, batch).items():
            self.events.picture(self.step, name, picture)

    @property
    def _made_by(self) -> list[tuple[str, int, int]]:
        """Side, first and last step of everyone who has trained so far."""
        return [*self.sides, (self.setting.facts.side, self.begun, self.step)]

    # --- ends ----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of where the training stands."""
        self.wait()
        self._show_weights()
        self.events.flush()
        facts = self.setting.facts.model_copy(
            update={
                "step": self.step,
                "steps": self.steps,
                "best": self.best,
                "waited": self.waited,
                "valid": tuple(self.valid),
                "seconds": self.seconds,
                "sides": tuple(self._made_by if self.step > self.begun else self.sides),
            }
        )
        history = {"loss": np.asarray(self.losses), "norm": np.asarray(self.norms)}
        made = Checkpoint(
            facts, self.runner.weights(), self.training.optimizer_state(), self.best_weights, history
        )
        checkpoint.write(self.setting.checkpoints, made, self.setting.keep)
        self.saved_at = self.seconds

    def finish(self) -> dict[str, Json]:
        """The best weights on the test examples, and how training went."""
        self.runner.load(self.best_weights or self.runner.weights())
        scores = scores_of(self.runner, self.setting.task, self.setting.dataset, "test")
        self.events.scalars(self.step, {f"test/{name}": value for name, value in scores.items()})
        self.events.close()
        return {
            "step": self.step,
            "steps": self.steps,
            "epochs": self.step // self.order.steps_per_epoch,
            "seconds": self.seconds,
            "stopped_early": self.step < self.steps,
            "goal_s": reached(self.valid, self.setting.task.goal),
            "sides": self._made_by,
            "valid": self.valid,
            "best": self.best,
            "test": scores,
            **thinned(self.losses),
        }


def rule(recipe: Recipe) -> Optimizer:
    """The recipe's update rule; its learning rate is given step by step."""
    return Optimizer(
        recipe.optimizer, recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def reached(valid: Sequence[dict[str, Json]], goal: Mapping[str, Json]) -> float | None:
    """Seconds of training until the validation scores first met the goal; None where they never did."""
    return next((row["seconds"] for row in valid if met(goal, row)), None)


def thinned(losses: Sequence[float], most: int = 400) -> dict[str, Json]:
    """Losses at evenly spaced steps (from 1), the last one among them."""
    every = max(1, len(losses) // most)
    kept = sorted({*range(0, len(losses), every), len(losses) - 1} if losses else set())
    return {"loss_steps": [i + 1 for i in kept], "losses": [losses[i] for i in kept]}
