"""Control flow: what does a compiler do with code as a person would first write it?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import COMPILED, Cell, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study


class ControlFlowStudy(Study):
    """Small programs with branches, loops, effects and data-made shapes, plainly and compiled."""

    name: ClassVar[str] = "control_flow"
    needs: ClassVar[frozenset[str]] = frozenset()
    verbs_module: ClassVar[str] = "twinax.studies.control_flow_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        cells = [
            Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=COMPILED[side],
                size=Size(batch=1),
                dtype="float64",
                device=options.device,
            )
            for side in info.sides
        ]
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        crew.say("compiling programs with control flow and effects")
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)
        for cell in group.cells:
            with contextlib.suppress(CellFailed):
                crew.worker(cell).send("control_flow")
        for cell in group.cells:
            try:
                yield crew.record(cell, crew.worker(cell).receive())
            except CellFailed as error:
                outcome = Outcome(error.outcome)
                yield crew.record(cell, outcome=outcome, message=error.what, hint=error.hint)
            crew.stop(cell)
