"""What a training needs to know before its first step, and where it leaves what it makes."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, replace
from pathlib import Path

from twinax.errors import BadInput
from twinax.records import Cell, Options, Recipe
from twinax.train.checkpoint import Facts
from twinax.train.recipe import chosen, task_of
from twinax.twin import Dataset, Task, Twin

CHECKPOINTS, EVENTS = "checkpoints", "tensorboard"


@dataclass(frozen=True)
class Setting:
    """One training of one side on one fold.

    Attributes:
        twin: Configured by the recipe and the data.
        task: What it is trained for.
        recipe: How.
        dataset: On what.
        facts: The first checkpoint's facts: no step made yet.
        checkpoints: Folder of this training's checkpoints.
        events: Folder of its event files.
        keep: Checkpoints that are kept.
        every_s: Seconds of training between two checkpoints.
    """

    twin: Twin
    task: Task
    recipe: Recipe
    dataset: Dataset
    facts: Facts
    checkpoints: Path
    events: Path
    keep: int
    every_s: float


def lane(cell: Cell, fold: int) -> str:
    """The folder of a cell's training on a fold, below ``checkpoints`` and ``tensorboard``."""
    side = f"{cell.side}-nudged" if cell.repeat else cell.side
    return f"{side}/fold-{fold + 1}"


def make(twin: Twin, cell: Cell, options: Options, folder: Path, fold: int) -> Setting:
    """Read the data and complete the twin.

    Raises:
        BadInput: A setting or the data cannot be used.
    """
    twin, recipe = chosen(twin, options.preset or "tiny", options.settings)
    task = task_of(twin)
    dataset = task.load(twin.config, options.data, fold, options.seed)
    if len(dataset.train) < recipe.accumulate:
        raise BadInput(
            f"There are {len(dataset.train)} examples to train on, and a step takes {recipe.accumulate} parts.",
            "Give more data, or a smaller accumulate.",
        )
    twin = replace(twin, config={**twin.config, **dataset.config})
    facts = Facts(
        twinax_version=importlib.metadata.version("twinax"),
        twin=twin.name,
        config=dict(twin.config),
        preparation=dict(dataset.preparation),
        side=cell.side,
        dtype=cell.dtype,
        recipe=recipe,
        data=options.data,
        fold=fold,
        seed=options.seed,
        step=0,
        steps=0,
    )
    place = lane(cell, fold)
    return Setting(
        twin,
        task,
        recipe,
        dataset,
        facts,
        folder / CHECKPOINTS / place,
        folder / EVENTS / place,
        options.keep,
        options.checkpoint_s,
    )
