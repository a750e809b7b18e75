"""What a worker does with trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from twinax.errors import BadInput
from twinax.frameworks.base import Runner
from twinax.frameworks.make import make_runner
from twinax.records import Json
from twinax.sources import resolve
from twinax.studies.base import Context, Verb
from twinax.train import checkpoint
from twinax.train.checkpoint import Checkpoint
from twinax.train.evaluating import joined, scores_of
from twinax.train.recipe import task_of
from twinax.twin import Arrays, Twin

BATCH = 4096  # rows of a file at a time


def _trained(context: Context, path: str) -> tuple[Twin, Runner, Checkpoint]:
    """The twin as it was trained, and its side with the best weights."""
    found = checkpoint.read(Path(path))
    twin = replace(resolve(context.cell.twin), config=found.facts.config)
    return twin, make_runner(context.cell, twin, found.best or found.weights), found


def evaluate(context: Context, *, path: str, data: str) -> dict[str, Json]:
    """The best weights on the test examples, beside the baselines.

    Raises:
        BadInput: The data are not those it was trained on.
    """
    twin, runner, found = _trained(context, path)
    facts, task = found.facts, task_of(twin)
    dataset = task.load(twin.config, data or facts.data, facts.fold, facts.seed)
    if checkpoint.plain(dataset.preparation) != facts.preparation:
        raise BadInput(
            f"The data{' in ' + data if data else ''} are not those that {facts.twin} was trained on: they are "
            "prepared otherwise.",
            "Give the file it was trained on with --data, or train anew.",
        )
    scores = scores_of(runner, task, dataset, "test")
    return {"test": scores, "baselines": task.baselines(dataset), "about": dataset.about}


def predict(context: Context, *, path: str, file: str) -> dict[str, Json]:
    """A row for each row of the file that can be predicted."""
    twin, runner, found = _trained(context, path)
    task, facts = task_of(twin), found.facts
    batch, rows = task.prepare(twin.config, facts.preparation, Path(file))
    if not rows:
        raise BadInput(f"{file} holds no rows to predict.", "Give a CSV file with at least one row.")
    parts: list[Arrays] = []
    for start in range(0, len(rows), BATCH):
        some = {name: np.asarray(array)[start : start + BATCH] for name, array in batch.items()}
        parts.append(runner.prepare("forward", [some]).outputs())
    predicted = task.predictions(facts.preparation, joined(parts))
    if taken := [name for name in predicted[0] if name in rows[0]]:
        raise BadInput(
            f"{file} has the column {taken[0]} already, which the prediction would replace.",
            "Rename that column, or leave it out.",
        )
    return {"rows": [{**row, **more} for row, more in zip(rows, predicted, strict=True)]}


VERBS: Mapping[str, Verb] = {verb.__name__: verb for verb in (evaluate, predict)}
