"""Mistakes: what happens after those that people make, and does anything tell them?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import COMPILED, Cell, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study


class MistakesStudy(Study):
    """Small programs with one mistake each, and the same without it, on each side; the model plays no part."""

    name: ClassVar[str] = "mistakes"
    needs: ClassVar[frozenset[str]] = frozenset()
    loads: ClassVar = "nothing"
    verbs_module: ClassVar[str] = "twinax.studies.mistakes_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        cells = [
            Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=COMPILED[side],
                size=Size(batch=1),
                dtype="float32",
                device=options.device,
            )
            for side in info.sides
        ]
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        """Both sides at once: a verdict that rests on time is of programs that take turns in one process."""
        crew.say("making mistakes")
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)
        for cell in group.cells:
            with contextlib.suppress(CellFailed):
                crew.worker(cell).send("mistakes")
        for cell in group.cells:
            try:
                yield crew.record(cell, crew.worker(cell).receive())
            except CellFailed as error:
                outcome = Outcome(error.outcome)
                yield crew.record(cell, outcome=outcome, message=error.what, hint=error.hint)
            crew.stop(cell)
