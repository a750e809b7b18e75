"""Automatic differentiation: what can be differentiated, how right, and where it is a matter of convention."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import PROVED, Cell, Json, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study

BOUND = 1e-9
SIZES = {"quick": [16, 128, 512], "full": [16, 64, 256, 1024]}
"""Lengths of the tasks' vectors."""


class AutodiffStudy(Study):
    """Tasks against closed forms, and standard workloads against complex step; in float64."""

    name: ClassVar[str] = "autodiff"
    needs: ClassVar[frozenset[str]] = frozenset()
    timed: ClassVar[bool] = True
    verbs_module: ClassVar[str] = "twinax.studies.autodiff_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        return [Group(self.name, probing(self.name, info, options))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        crew.say("differentiating: tasks with a closed form, and standard workloads")
        sizes = SIZES["quick" if crew.options.quick else "full"]
        for cell in group.cells:  # one after the other: they are timed
            try:
                found = crew.worker(cell).call("derivatives", sizes=sizes)
                found |= crew.worker(cell).call("workloads")
            except CellFailed as error:
                outcome = Outcome(error.outcome)
                yield crew.record(cell, outcome=outcome, message=error.what, hint=error.hint)
            else:
                yield judged(cell, found, crew)
            crew.stop(cell)


class ConventionsStudy(Study):
    """Gradients at kinks, ties, singular points, infinite and empty input; in float64."""

    name: ClassVar[str] = "conventions"
    needs: ClassVar[frozenset[str]] = frozenset()
    verbs_module: ClassVar[str] = "twinax.studies.autodiff_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        return [Group(self.name, probing(self.name, info, options))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        crew.say("differentiating at special points")
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)
        for cell in group.cells:
            with contextlib.suppress(CellFailed):
                crew.worker(cell).send("conventions")
        for cell in group.cells:
            try:
                yield crew.record(cell, crew.worker(cell).receive())
            except CellFailed as error:
                outcome = Outcome(error.outcome)
                yield crew.record(cell, outcome=outcome, message=error.what, hint=error.hint)
            crew.stop(cell)


def probing(study: str, info: TwinInfo, options: Options) -> tuple[Cell, ...]:
    """A cell per side for probes, which do not run the twin itself."""
    return tuple(
        Cell(
            twin=info.name,
            study=study,
            side=side,
            mode=PROVED[side],
            size=Size(batch=1),
            dtype="float64",
            device=options.device,
        )
        for side in info.sides
    )


def judged(cell: Cell, found: dict[str, Json], crew: Crew) -> Record:
    """The cell's record: a mismatch where a task's answer is not the closed form's."""
    wrong = [
        f"{row['task']} ({row['said'] or 'error ' + format(row['error'] or math.nan, '.1e')})"
        for row in found["derivatives"]
        if _off(row["error"])
    ]
    for row in found["workloads"]:
        for what, error in zip(("objective", "Jacobian"), row["errors"], strict=True):
            if _off(error):
                wrong.append(f"{row['workload']}'s {what} ({row['said'] or format(error or math.nan, '.1e')})")
    if not wrong:
        return crew.record(cell, found)
    return crew.record(
        cell,
        found,
        outcome=Outcome.MISMATCH,
        message=f"Not what the reference says: {', '.join(wrong)}.",
        hint="The code is in twinax/probes/derivatives and twinax/probes/workloads.",
    )


def _off(error: float | None) -> bool:
    return error is None or not error <= BOUND
