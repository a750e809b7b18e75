"""From a preset's name and single settings to the twin and the recipe that are trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from twinax.errors import BadInput
from twinax.records import Json, Recipe
from twinax.twin import Task, Twin

NOT_SET = frozenset({"config"})


def task_of(twin: Twin) -> Task:
    """The twin's task.

    Raises:
        BadInput: It has none.
    """
    if twin.task is None:
        raise BadInput(
            f"{twin.name} has no task: nothing says on what it is trained, and for what.",
            "`twinax list` shows the twins that can be trained.",
        )
    return twin.task


def chosen(twin: Twin, preset: str, settings: Mapping[str, Json]) -> tuple[Twin, Recipe]:
    """The twin as the recipe configures it, and the recipe.

    Args:
        twin: The twin.
        preset: ``tiny`` or ``full``.
        settings: Fields of the recipe, or keys of the twin's configuration, with other values.

    Raises:
        BadInput: There is no such preset, no such setting, it is not for anyone to set, or the value cannot be
            used.
    """
    task = task_of(twin)
    if preset not in task.recipes:
        raise BadInput(
            f"{twin.name} has no preset {preset}.", f"Its presets are: {', '.join(sorted(task.recipes))}."
        )
    recipe = task.recipes[preset]
    config = {**twin.config, **recipe.config}
    fields = set() if "fit" in twin.programs else set(Recipe.model_fields) - NOT_SET
    _require_settable(twin, settings, [*sorted(fields), *sorted(config.keys() - task.fixed.keys())])
    for key in settings.keys() - fields:
        config[key] = _like(key, settings[key], config[key])
    try:
        recipe = Recipe.model_validate(
            {**recipe.model_dump(), **{key: settings[key] for key in settings.keys() & fields}}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"{first['loc'][0]} = {first['input']!r} cannot be used: {first['msg'].lower()}.",
            f"It is {json.dumps(getattr(recipe, str(first['loc'][0])))} by default.",
        ) from error
    if recipe.batch % recipe.accumulate:
        raise BadInput(
            f"A batch of {recipe.batch} cannot be cut into {recipe.accumulate} equal parts.",
            "Give a batch that is a multiple of accumulate.",
        )
    return replace(twin, config=config), recipe


def _require_settable(twin: Twin, settings: Mapping[str, Json], known: Sequence[str]) -> None:
    fixed = task_of(twin).fixed
    for key in settings:
        if key in known:
            continue
        what = f"{key} cannot be set: {fixed[key]}" if key in fixed else f"{twin.name} has no setting {key}"
        raise BadInput(f"{what}.", f"Settings are: {', '.join(known)}.")


def _like(key: str, value: Any, default: Any) -> Any:
    """The value where it is of the default's kind; a default of None, or of several kinds, takes anything."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    fits = (
        default is None
        or (isinstance(default, bool) and isinstance(value, bool))
        or (isinstance(default, int) and not isinstance(default, bool) and number and float(value).is_integer())
        or (isinstance(default, float) and number)
        or (isinstance(default, str) and isinstance(value, str | int | float))
        or (isinstance(default, list | dict) and isinstance(value, type(default)))
    )
    if not fits:
        raise BadInput(
            f"{key} = {json.dumps(value)} cannot be used; it is {json.dumps(default)} by default.",
            f"Give a value of the same kind: --set {key}={json.dumps(default)}",
        )
    if isinstance(default, int) and isinstance(value, float):
        return int(value)  # 3.0 is 3
    return value


def parsed(words: Sequence[str]) -> dict[str, Json]:
    """``["C=10", "kernel=rbf"]`` as settings: values are JSON, and text where they are none.

    Raises:
        BadInput: A word is no ``KEY=VALUE``, or a key comes twice.
    """
    found: dict[str, Json] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key or key in found:
            why = "was given before" if key in found else "is no KEY=VALUE"
            raise BadInput(f"--set {word} {why}.", "For example: --set epochs=20 --set learning_rate=0.001")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step (from 0) of ``steps`` in all.

    η·(t + 1)/w in the warm-up's w steps; then η, or with s = (t − w)/(T − w): η (1 + cos π s)/2
    (Loshchilov & Hutter, arXiv:1608.03983), or η (1 − s).
    """
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(steps - recipe.warmup, 1)
    factor = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}
    return recipe.learning_rate * factor[recipe.schedule]
