"""Training: does each side, trained from the same weights on the same data, reach what the task promises?

Both sides start from the same NumPy-made weights and see the same examples in the same order, with the same
dropout masks. Where somebody asked for both, torch is trained a second time from weights that were nudged by
one unit in the last place: how far that training drifts from the first tells whether the distance between the
two sides means anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import PROVED, Cell, Json, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study, Worker
from twinax.train.goal import met

TURN_S = 2.0  # seconds of training between two signs of life


class TrainingStudy(Study):
    """For twins with a task; the others have no cells."""

    name: ClassVar[str] = "training"
    needs: ClassVar[frozenset[str]] = frozenset({"forward"})
    loads: ClassVar = "twin"
    verbs_module: ClassVar[str] = "twinax.studies.training_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        task = info.task
        if task is None or not (options.preset or task.brief):
            return []
        size = Size(batch=task.recipes[options.preset or "tiny"].batch)

        def cell(side: str, repeat: int) -> Cell:
            return Cell(
                twin=info.name,
                study=self.name,
                side=side,  # type: ignore[arg-type]
                mode=PROVED[side],
                size=size,
                dtype=options.dtype,
                device=options.device,
                repeat=repeat,
            )

        sides = [side for side in info.sides if side in (options.sides or info.sides)]
        cells = [cell(side, 0) for side in sides]
        if options.preset and len(sides) == 2 and "fit" not in info.programs and not options.crossing:
            cells.append(cell("torch", 1))
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        assert crew.info.task is not None
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)  # imports at once; training is one after the other
        for cell in group.cells:
            try:
                folds = [train(crew, cell, fold) for fold in range(crew.info.task.folds)]
            except CellFailed as error:
                yield crew.record(cell, outcome=Outcome(error.outcome), message=error.what, hint=error.hint)
            else:
                yield judged(crew, cell, folds)
            crew.stop(cell)


def train(crew: Crew, cell: Cell, fold: int) -> dict[str, Json]:
    """Train one side on one fold, with signs of life."""
    worker: Worker = crew.worker(cell)
    opened = worker.call("open_training", fold=fold)
    folds = crew.info.task.folds if crew.info.task else 1
    where = (
        f"{cell.side}{', nudged' if cell.repeat else ''}{f', fold {fold + 1} of {folds}' if folds > 1 else ''}"
    )
    for what in opened["passed_over"]:
        crew.say(f"{where}: a checkpoint is passed over: {what}")
    if opened["passed_over"] and not opened["step"]:
        crew.say(f"{where}: begins anew, no whole checkpoint is left")
    if opened["step"]:
        crew.say(
            f"{where}: goes on after step {opened['step']} of {opened['steps']}, which {opened['side']} made"
        )
    while True:
        told = worker.call("advance", seconds=TURN_S)
        crew.say(f"{where}: {progress(told)}")
        if told["done"]:
            if told["step"] < told["steps"]:
                crew.say(f"{where}: stopped early, validation no longer improves")
            return worker.call("finish") | {"passed_over": opened["passed_over"]}


def progress(told: dict[str, Json], width: int = 20) -> str:
    """``step 120 of 400 ██████░░░░, loss 0.512, valid 0.611``."""
    done = told["step"] / told["steps"]
    bar = "█" * round(width * done) + "░" * (width - round(width * done))
    parts = [f"step {told['step']:,} of {told['steps']:,} {bar}"]
    if told["loss"] is not None:
        parts.append(f"loss {told['loss']:.4g}")
    if told["valid"] is not None:
        parts.append(f"validation {told['metric']} {told['valid']:.4g}")
    if told["seconds"]:
        left = (told["steps"] - told["step"]) * told["seconds"] / max(told["step"], 1)
        parts.append(f"about {left:.0f} s left" if left >= 1 else f"{told['seconds']:.1f} s")
    return ", ".join(parts)


def judged(crew: Crew, cell: Cell, folds: list[dict[str, Json]]) -> Record:
    """The record of a training, held against the goal of the twin's ``tiny`` preset on its own data."""
    task = crew.info.task
    assert task is not None
    scores = mean_of([fold["test"] for fold in folds])
    found: dict[str, Json] = {
        "folds": folds,
        "test": scores,
        "baselines": {
            name: mean_of([fold["baselines"][name] for fold in folds]) for name in folds[0]["baselines"]
        },
        "metric": task.metric,
        "better": task.better,
    }
    if cell.repeat:  # what the two sides' distance is held against; its scores are nobody's
        return crew.record(cell, found)
    promised = not crew.options.data and crew.options.preset in ("", "tiny") and not crew.options.settings
    reached = met(task.goal, scores)
    found |= {"met": reached, "promised": promised, "claim": task.goal["claim"]}
    if reached or not promised:
        return crew.record(cell, found)
    told = ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
    return crew.record(
        cell,
        found,
        outcome=Outcome.MISMATCH,
        message=f"Training ended with {told}; promised: {task.goal['claim']}",
        hint="The report shows the loss curve of both sides.",
    )


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each score that every fold has."""
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in shared}
