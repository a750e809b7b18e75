"""What the training study does inside its workers."""

from __future__ import annotations

from collections.abc import Mapping

from twinax.errors import BadInput
from twinax.frameworks.make import make_runner
from twinax.records import Json
from twinax.studies.base import Context, Verb
from twinax.studies.parity_verbs import nudge_wide
from twinax.train import checkpoint, setting
from twinax.train.checkpoint import Checkpoint
from twinax.train.loop import Loop
from twinax.train.setting import CHECKPOINTS, Setting
from twinax.train.solve import Solve
from twinax.twin import Arrays, Twin

COMPARED = ("twin", "dtype", "recipe", "data", "fold", "seed", "config", "preparation")
"""What a checkpoint must share with a training that continues it."""


def open_training(context: Context, *, fold: int) -> dict[str, Json]:
    """Read the data, and take up the newest whole checkpoint where there is one."""
    assert context.twin is not None
    made = setting.make(context.twin, context.cell, context.options, context.folder, fold)
    passed_over: list[str] = []
    start = found(context, made, fold, passed_over)
    if "fit" in made.twin.programs:
        learner: Loop | Solve = Solve(context.cell, made, start)
    else:
        weights = _initial(context, made.twin)
        runner = make_runner(context.cell, made.twin, weights)
        learner = Loop(runner, made, start, weights)
    context.memory["learner"], context.memory["setting"] = learner, made
    side = start.facts.side if start else ""
    return {"step": learner.step, "steps": learner.steps, "side": side, "passed_over": passed_over}


def _initial(context: Context, twin: Twin) -> Arrays:
    """What training starts from: a checkpoint that the user gave, else the twin's own draw."""
    if context.options.weights:
        return context.weights
    weights = twin.init(twin.config, context.options.seed)
    return nudge_wide(weights, 0, context.cell.dtype) if context.cell.repeat else weights


def found(context: Context, made: Setting, fold: int, passed_over: list[str]) -> Checkpoint | None:
    """The newest whole checkpoint of this training; with ``crossing``, of whatever side.

    What is wrong with those that are passed over is added to ``passed_over``.

    Raises:
        BadInput: There is one, but of another training.
    """
    places = [made.checkpoints]
    if context.options.crossing:
        places = [context.folder / CHECKPOINTS / side / f"fold-{fold + 1}" for side in ("torch", "jax")]
    known = [start for place in places if (start := checkpoint.newest(place, passed_over)) is not None]
    if not known:
        return None
    start = max(known, key=lambda c: c.facts.step)
    differs = [
        key for key in COMPARED if getattr(start.facts, key) != checkpoint.plain(getattr(made.facts, key))
    ]
    if "fit" in made.twin.programs:  # its solver found sizes that the setting cannot know
        differs = [key for key in differs if key != "config"]
    if differs:
        key = differs[0]
        raise BadInput(
            f"The checkpoint of {start.facts.twin}, step {start.facts.step}, is of another training: its {key} "
            f"is {_short(getattr(start.facts, key))}, not {_short(getattr(made.facts, key))}.",
            "Continue with what it was begun with, or begin anew in another folder.",
        )
    return start


def _short(value: Json) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def advance(context: Context, *, seconds: float) -> dict[str, Json]:
    """Train for about so long, and say how it stands."""
    learner, made = _learner(context)
    learner.advance(seconds)
    return {
        "done": learner.done,
        "step": learner.step,
        "steps": learner.steps,
        "seconds": learner.seconds,
        "loss": learner.losses[-1] if learner.losses else None,
        "valid": learner.valid[-1][made.task.metric] if learner.valid else None,
        "metric": made.task.metric,
    }


def finish(context: Context) -> dict[str, Json]:
    """Test scores beside those of simpler ways."""
    learner, made = _learner(context)
    measured = learner.finish()
    return measured | {
        "baselines": made.task.baselines(made.dataset),
        "about": made.dataset.about,
        "recipe": made.recipe.model_dump(),
        "parameters": sum(array.size for array in learner.best_weights.values()),
    }


def _learner(context: Context) -> tuple[Loop | Solve, Setting]:
    learner, made = context.memory["learner"], context.memory["setting"]
    assert isinstance(learner, Loop | Solve) and isinstance(made, Setting)
    return learner, made


VERBS: Mapping[str, Verb] = {verb.__name__: verb for verb in (open_training, advance, finish)}
