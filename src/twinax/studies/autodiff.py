"""Automatic differentiation: what each side answers where a derivative is a matter of convention."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import PROVED, Cell, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study


class AutodiffStudy(Study):
    """Value and gradient of small functions at kinks, ties, singular, infinite and empty inputs, in float64."""

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
        crew.say("differentiating where it is a matter of convention")
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)
        for cell in group.cells:
            try:
                found = crew.worker(cell).call("conventions")
            except CellFailed as error:
                outcome = Outcome(error.outcome)
                yield crew.record(cell, outcome=outcome, message=error.what, hint=error.hint)
            else:
                yield crew.record(cell, found)
            crew.stop(cell)
