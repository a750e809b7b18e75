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


class AutodiffStudy(Study):
    """Differentiation tasks held against closed forms, and gradients at special points; in float64."""

    name: ClassVar[str] = "autodiff"
    needs: ClassVar[frozenset[str]] = frozenset()
    verbs_module: ClassVar[str] = "twinax.studies.autodiff_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        cells = [
            Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=PROVED[side],
                size=Size(batch=1),
                dtype="float64",
                device=options.device,
            )
            for side in info.sides
        ]
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        crew.say("differentiating: tasks with a closed form, and special points")
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)
        for cell in group.cells:
            try:
                crew.settle()
                found = {**crew.worker(cell).call("derivatives"), **crew.worker(cell).call("conventions")}
            except CellFailed as error:
                outcome = Outcome(error.outcome)
                yield crew.record(cell, outcome=outcome, message=error.what, hint=error.hint)
            else:
                yield judged(cell, found, crew)
            crew.stop(cell)


def judged(cell: Cell, found: dict[str, Json], crew: Crew) -> Record:
    """The cell's record: a mismatch where a task's answer is not the closed form's."""
    wrong = [
        f"{row['task']} ({row['said'] or 'error ' + format(row['error'] or math.nan, '.1e')})"
        for row in found["derivatives"]
        if row["error"] is None or row["error"] > BOUND
    ]
    if not wrong:
        return crew.record(cell, found)
    return crew.record(
        cell,
        found,
        outcome=Outcome.MISMATCH,
        message=f"Not what the closed form says: {', '.join(wrong)}.",
        hint="The task's code is in twinax/probes/derivatives.",
    )
